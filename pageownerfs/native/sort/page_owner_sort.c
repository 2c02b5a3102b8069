// SPDX-License-Identifier: MIT
/*
 * page_owner_sort.c - groups records by their contents.
 */
#define _GNU_SOURCE
#include <stdlib.h>

#include "base/vector.h"
#include "sort/page_owner_sort.h"
#include "text/known_stacks.h"

/* ---- stacks ---- */

static u32 add_stack(void *self, const char *text, size_t size)
{
	struct sorter *sorter = self;
	struct sort_stack info = {.module = NO_STRING, .next = sorter->stacks.nr};
	const char *module;
	size_t module_size;
	u32 number;

	/* Set up its info first: a stack that can be found must have one. */
	if (!vector_reserve(sorter->stack_infos, sorter->stacks.nr, &sorter->stack_infos_room))
		return NO_STRING;
	info.allocator = text_stack_allocator(text, size);
	module_size = text_stack_module(text, size, &module);
	if (module_size) {
		info.module = strings_add(&sorter->modules, module, module_size);
		if (info.module == NO_STRING)
			return NO_STRING;
	}
	number = strings_add(&sorter->stacks, text, size);
	if (number == info.next)
		sorter->stack_infos[number] = info;
	return number;
}

static enum text_status find_stack(void *self, const char *end, bool final,
				   struct text_record *record, u32 *number)
{
	struct sorter *sorter = self;
	const u32 last = sorter->last_stack,
		  next = sorter->stacks.nr ? sorter->stack_infos[last].next : 0;
	enum text_status status = find_or_add_stack(&sorter->stacks, last, next, end, final, record,
						    number, add_stack, sorter);

	if (status == TEXT_RECORD && *number != NO_STRING) {
		sorter->stack_infos[last].next = *number;
		sorter->last_stack = *number;
	}
	return status;
}

/* ---- groups ---- */

static u32 hash_group(const struct sorter *sorter, const struct sort_group *group)
{
	const u32 key = sorter->key;
	u64 hash = HASH_SEED, ids, numbers;

	if (key & BIT(FIELD_TXT)) {
		ids = (u64)(u32)group->pid << 32 | (u32)group->tgid;
		numbers = (u64)group->stack << 32 | group->comm;
		hash = hash_mix(hash ^ ids, 0xa0761d6478bd642full ^ numbers);
		numbers = (u64)group->mask << 32 | (u32)group->order << 8 | group->fields;
		hash = hash_mix(hash ^ numbers, 0xe7037ed1a0b428dbull ^ group->free_ts_nsec);
		if (key & BIT(FIELD_TS))
			hash = hash_mix(hash ^ group->ts_nsec, 0x8ebc6af09c88c6e3ull);
	} else {
		ids = (u64)(key & BIT(FIELD_PID) ? (u32)group->pid : 0) << 32 |
		      (key & BIT(FIELD_TGID) ? (u32)group->tgid : 0);
		numbers = (u64)(key & BIT(FIELD_STACKTRACE) ? group->stack : 0) << 32 |
			  (key & BIT(FIELD_COMM) ? group->comm : 0);
		hash = hash_mix(hash ^ ids, 0xa0761d6478bd642full ^ numbers);
		numbers = (u64)(key & BIT(FIELD_MODULE) ? module_of(sorter, group) : 0) << 16 |
			  (key & BIT(FIELD_ALLOCATOR) ? (u32)group->allocator : 0) << 8 |
			  (key & BIT(FIELD_FREE) ? is_released(group) : 0);
		hash = hash_mix(hash ^ numbers, 0xe7037ed1a0b428dbull);
	}
	return (u32)hash;
}

/* Do both records belong to the same group? */
static bool same_group(const struct sorter *sorter, const struct sort_group *a,
		       const struct sort_group *b)
{
	const u32 key = sorter->key;

	if (key & BIT(FIELD_TXT))
		return a->stack == b->stack && a->pid == b->pid && a->tgid == b->tgid &&
		       a->comm == b->comm && a->mask == b->mask && a->order == b->order &&
		       a->free_ts_nsec == b->free_ts_nsec && a->fields == b->fields &&
		       (!(key & BIT(FIELD_TS)) || a->ts_nsec == b->ts_nsec);
	return (!(key & BIT(FIELD_STACKTRACE)) || a->stack == b->stack) &&
	       (!(key & BIT(FIELD_PID)) || a->pid == b->pid) &&
	       (!(key & BIT(FIELD_TGID)) || a->tgid == b->tgid) &&
	       (!(key & BIT(FIELD_COMM)) || a->comm == b->comm) &&
	       (!(key & BIT(FIELD_FREE)) || is_released(a) == is_released(b)) &&
	       (!(key & BIT(FIELD_ALLOCATOR)) || a->allocator == b->allocator) &&
	       (!(key & BIT(FIELD_MODULE)) || module_of(sorter, a) == module_of(sorter, b));
}

/* Count a record in its group, or start a new group with it. */
static bool add_group(struct sorter *sorter, const struct sort_group *group)
{
	u32 hash = hash_group(sorter, group);

	hash_for_each_possible (&sorter->group_numbers, number, hash) {
		struct sort_group *found = &sorter->groups[number];

		if (same_group(sorter, found, group)) {
			found->times += group->times;
			found->pages += group->pages;
			return true;
		}
	}
	if (!hash_table_reserve(&sorter->group_numbers) ||
	    !vector_reserve(sorter->groups, sorter->nr_groups, &sorter->groups_room))
		return false;
	sorter->groups[sorter->nr_groups] = *group;
	hash_table_insert(&sorter->group_numbers, hash, sorter->nr_groups++);
	return true;
}

/* ---- reading ---- */

static bool has_number(const s32 *numbers, u32 nr, s32 number)
{
	for (u32 i = 0; i < nr; i++)
		if (numbers[i] == number)
			return true;
	return false;
}

static bool has_string(const struct string *strings, u32 nr, const char *text, size_t size)
{
	for (u32 i = 0; i < nr; i++)
		if (string_equals(&strings[i], text, size))
			return true;
	return false;
}

static bool module_counts(const struct sorter *sorter, u32 stack)
{
	const struct sort_filter *filter = &sorter->filter;
	const u32 number = sorter->stack_infos[stack].module;
	const struct string *module = number == NO_STRING ? NULL : &sorter->modules.items[number];

	return has_string(filter->modules, filter->nr_modules, module ? module->text : "vmlinux",
			  module ? module->size : strlen("vmlinux"));
}

/* Like is_need() in tools/mm/page_owner_sort.c. */
static bool record_counts(const struct sorter *sorter, const struct text_record *record, u32 stack)
{
	const struct sort_filter *filter = &sorter->filter;

	if (filter->pids && (!(record->fields & TEXT_HAS_PID) ||
			     !has_number(filter->pids, filter->nr_pids, record->pid)))
		return false;
	if (filter->tgids && (!(record->fields & TEXT_HAS_TGID) ||
			      !has_number(filter->tgids, filter->nr_tgids, record->tgid)))
		return false;
	if (filter->comms &&
	    (!(record->fields & TEXT_HAS_TGID) ||
	     !has_string(filter->comms, filter->nr_comms, record->comm, record->comm_size)))
		return false;
	if (filter->unreleased && record->free_ts_nsec && record->ts_nsec < record->free_ts_nsec)
		return false;
	return !filter->modules || module_counts(sorter, stack);
}

/* The number of a string, which is often the last one's. */
static inline u32 add_string(struct strings *strings, const char *text, size_t size, u32 *last)
{
	if (!strings->nr || !string_equals(&strings->items[*last], text, size)) {
		u32 number = strings_add(strings, text, size);

		if (number == NO_STRING)
			return number;
		*last = number;
	}
	return *last;
}

static bool add_record(void *self, const struct text_record *record, u32 stack)
{
	struct sorter *sorter = self;
	struct sort_group group = {
		/* Fields missing from the text get the defaults of the kernel's tool. */
		.ts_nsec = record->fields & TEXT_HAS_TS ? record->ts_nsec : UINT64_MAX,
		.free_ts_nsec = record->free_ts_nsec,
		.times = 1,
		.pages = 1ull << record->order,
		.stack = stack,
		.pid = record->fields & TEXT_HAS_PID ? record->pid : -1,
		.tgid = record->fields & TEXT_HAS_TGID ? record->tgid : -1,
		.order = record->order,
		.fields = record->fields & ~(TEXT_HAS_PFN | TEXT_PFN_HEX),
	};

	sorter->fields |= record->fields;
	if (!record_counts(sorter, record, stack))
		return true;
	group.allocator = record->parsed.allocator | sorter->stack_infos[stack].allocator;
	if (!group.allocator)
		group.allocator = ALLOCATOR_OTHERS;
	group.mask =
		add_string(&sorter->masks, record->mask, record->mask_size, &sorter->last_mask);
	group.comm =
		add_string(&sorter->comms, record->comm, record->comm_size, &sorter->last_comm);
	if (group.mask == NO_STRING || group.comm == NO_STRING || !add_group(sorter, &group))
		return false;
	sorter->nr_records++;
	return true;
}

ptrdiff_t sorter_feed(struct sorter *sorter, const char *text, size_t size, bool final)
{
	static const struct text_walker walker = {find_stack, NULL, add_record};

	return text_walk(&sorter->walk, &walker, sorter, text, size, final);
}

/* ---- several at once ---- */

/* Translate *number from the table from to strings, adding the string when it is first needed. */
static bool renumber(u32 *map, u32 *number, struct strings *strings, const struct strings *from)
{
	if (map[*number] == NO_STRING)
		map[*number] =
			strings_add(strings, from->items[*number].text, from->items[*number].size);
	*number = map[*number];
	return *number != NO_STRING;
}

static u32 *new_map(u32 nr)
{
	u32 *map = malloc((nr + 1) * sizeof(*map));

	if (map)
		memset(map, 0xff, (nr + 1) * sizeof(*map));
	return map;
}

static void merge_counters(struct sorter *sorter, const struct sorter *from)
{
	struct text_walk *walk = &sorter->walk;
	const struct text_walk *other = &from->walk;

	for (u64 i = 0; i < other->nr_damaged && i < NR_DAMAGE; i++, walk->nr_damaged++)
		if (walk->nr_damaged < NR_DAMAGE)
			walk->damage[walk->nr_damaged] = (struct text_damage){
				.offset = walk->nr_bytes + other->damage[i].offset,
				.record = walk->nr_seen + other->damage[i].record,
				.reason = other->damage[i].reason,
			};
	if (other->nr_damaged > NR_DAMAGE)
		walk->nr_damaged += other->nr_damaged - NR_DAMAGE;
	sorter->fields |= from->fields;
	sorter->nr_records += from->nr_records;
	walk->nr_seen += other->nr_seen;
	walk->nr_bytes += other->nr_bytes;
}

bool sorter_merge(struct sorter *sorter, struct sorter *from)
{
	u32 *masks = new_map(from->masks.nr), *comms = new_map(from->comms.nr),
	    *stacks = new_map(from->stacks.nr);
	bool done = masks && comms && stacks;

	hash_table_free(&from->group_numbers);
	for (u32 i = 0; done && i < from->nr_groups; i++) {
		struct sort_group group = from->groups[i];

		if (stacks[group.stack] == NO_STRING) {
			const struct string *stack = &from->stacks.items[group.stack];

			stacks[group.stack] = add_stack(sorter, stack->text, stack->size);
		}
		group.stack = stacks[group.stack];
		done = group.stack != NO_STRING &&
		       renumber(masks, &group.mask, &sorter->masks, &from->masks) &&
		       renumber(comms, &group.comm, &sorter->comms, &from->comms) &&
		       add_group(sorter, &group);
	}
	if (done)
		merge_counters(sorter, from);
	free(masks);
	free(comms);
	free(stacks);
	sorter_free(from);
	return done;
}

void sorter_free(struct sorter *sorter)
{
	strings_free(&sorter->masks);
	strings_free(&sorter->comms);
	strings_free(&sorter->stacks);
	strings_free(&sorter->modules);
	free(sorter->stack_infos);
	free(sorter->groups);
	hash_table_free(&sorter->group_numbers);
	*sorter = (struct sorter){.key = sorter->key, .filter = sorter->filter};
}
