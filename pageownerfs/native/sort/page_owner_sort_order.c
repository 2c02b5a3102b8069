// SPDX-License-Identifier: MIT
/*
 * page_owner_sort_order.c - the header lines of groups, and their order.
 */
#define _GNU_SOURCE
#include <stdlib.h>

#include "sort/page_owner_sort_order.h"
#include "text/record_put.h"

/* ---- text ---- */

size_t sorter_header(const struct sorter *sorter, const struct sort_group *group, char *out)
{
	const struct string *mask = &sorter->masks.items[group->mask];
	const struct string *comm = &sorter->comms.items[group->comm];
	const struct header header = {.mask = mask->text,
				      .comm = comm->text,
				      .mask_size = mask->size,
				      .comm_size = comm->size,
				      .pid = group->pid,
				      .tgid = group->tgid,
				      .order = group->order,
				      .fields = group->fields};
	/*
	 * ts would distinguish all records of a stack, so it is left out unless it is part of the
	 * key.
	 */
	const u64 *ts_nsec = sorter->key & BIT(FIELD_TS) ? &group->ts_nsec : NULL;
	char *end = put_header(out, &header);

	return (size_t)(put_times(end, group->fields, ts_nsec, group->free_ts_nsec) - out);
}

/* ---- order ---- */

#define COMPARE(a, b) (((a) > (b)) - ((a) < (b)))

static int compare_string(const struct strings *strings, u32 a, u32 b)
{
	return a == b ? 0 : string_compare(&strings->items[a], &strings->items[b]);
}

/*
 * Compare headers as bytes. They end with a newline, so where they differ the rest need not be
 * compared.
 */
static int compare_txt(const struct sorter *sorter, const struct sort_group *a,
		       const struct sort_group *b)
{
	char header_a[HEADER_MAX], header_b[HEADER_MAX];
	struct string text_a = {.text = header_a}, text_b = {.text = header_b};
	int result;

	text_a.size = sorter_header(sorter, a, header_a);
	text_b.size = sorter_header(sorter, b, header_b);
	result = string_compare(&text_a, &text_b);
	return result ? result : compare_string(&sorter->stacks, a->stack, b->stack);
}

static int compare_module(const struct sorter *sorter, const struct sort_group *a,
			  const struct sort_group *b)
{
	static const struct string vmlinux = {.text = "vmlinux", .size = 7};
	const u32 module_a = module_of(sorter, a), module_b = module_of(sorter, b);

	if (module_a == module_b)
		return 0;
	return string_compare(module_a == NO_STRING ? &vmlinux : &sorter->modules.items[module_a],
			      module_b == NO_STRING ? &vmlinux : &sorter->modules.items[module_b]);
}

static int compare_field(const struct sorter *sorter, enum sort_field field,
			 const struct sort_group *a, const struct sort_group *b)
{
	switch (field) {
	case FIELD_TXT:
		return compare_txt(sorter, a, b);
	case FIELD_STACKTRACE:
		return compare_string(&sorter->stacks, a->stack, b->stack);
	case FIELD_PID:
		return COMPARE(a->pid, b->pid);
	case FIELD_TGID:
		return COMPARE(a->tgid, b->tgid);
	case FIELD_COMM:
		return compare_string(&sorter->comms, a->comm, b->comm);
	case FIELD_FREE:
		return COMPARE(is_released(a), is_released(b));
	case FIELD_ALLOCATOR:
		return COMPARE(a->allocator, b->allocator);
	case FIELD_MODULE:
		return compare_module(sorter, a, b);
	case FIELD_TS:
		return COMPARE(a->ts_nsec, b->ts_nsec);
	case FIELD_FREE_TS:
		return COMPARE(a->free_ts_nsec, b->free_ts_nsec);
	case FIELD_TIMES:
		return COMPARE(a->times, b->times);
	default:
		return COMPARE(a->pages, b->pages);
	}
}

/*
 * Like compare_cull_condition() in tools/mm/page_owner_sort.c: compare the fields of the key in
 * their order.
 */
static int compare_key(const struct sorter *sorter, const struct sort_group *a,
		       const struct sort_group *b)
{
	int result = 0;

	for (unsigned int field = 0; field <= FIELD_MODULE && !result; field++)
		if (sorter->key & BIT(field))
			result = compare_field(sorter, field, a, b);
	return result;
}

static int compare_numbers(const void *p1, const void *p2, void *argument)
{
	const struct sort_order *order = argument;
	const struct sorter *sorter = order->sorter;
	const u32 a = *(const u32 *)p1, b = *(const u32 *)p2;
	const struct sort_group *group_a = &sorter->groups[a], *group_b = &sorter->groups[b];
	int result = 0;

	for (u32 i = 0; i < order->nr_keys && !result; i++)
		result = order->keys[i].sign *
			 compare_field(sorter, order->keys[i].field, group_a, group_b);
	if (!result) {
		result = compare_key(sorter, group_a, group_b);
		if (!result)
			result = COMPARE(a, b);
		if (order->ties_reversed)
			result = -result;
	}
	return result;
}

void sorter_order(const struct sort_order *order, u32 *numbers)
{
	for (u32 i = 0; i < order->sorter->nr_groups; i++)
		numbers[i] = i;
	/* No two groups compare equal, so the sort need not be stable. */
	qsort_r(numbers, order->sorter->nr_groups, sizeof(*numbers), compare_numbers,
		(void *)order);
}
