// SPDX-License-Identifier: MIT
/*
 * stack_counts.c - pages by stack.
 *
 * What inc_stack_record_count() and dec_stack_record_count() of mm/page_owner.c keep, counted from
 * the records.
 */
#include <stdlib.h>

#include "tables/page_ext.h"
#include "tables/stack_counts.h"

#define FIRST_SLOTS 1024

static inline u32 handle_hash(u32 handle)
{
	return (u32)((u64)handle * 0x9e3779b97f4a7c15ULL >> 32);
}

static struct stack_count *find_slot(const struct stack_counts *counts, u32 handle)
{
	u32 i = handle_hash(handle);

	for (;; i++) {
		struct stack_count *slot = &counts->slots[i & (counts->nr_slots - 1)];

		if (slot->handle == handle || !slot->handle)
			return slot;
	}
}

static bool grow(struct stack_counts *counts)
{
	struct stack_counts more = {.nr = counts->nr,
				    .nr_slots =
					    counts->nr_slots ? 4 * counts->nr_slots : FIRST_SLOTS};

	more.slots = calloc(more.nr_slots, sizeof(*more.slots));
	if (!more.slots)
		return false;
	for (u32 i = 0; i < counts->nr_slots; i++)
		if (counts->slots[i].handle)
			*find_slot(&more, counts->slots[i].handle) = counts->slots[i];
	free(counts->slots);
	*counts = more;
	return true;
}

/* The slot of a handle, which is new if nr_base_pages is 0; NULL: no memory. */
static struct stack_count *get_slot(struct stack_counts *counts, u32 handle)
{
	struct stack_count *slot;

	if (counts->nr >= counts->nr_slots / 2 && !grow(counts))
		return NULL;
	slot = find_slot(counts, handle);
	if (!slot->handle) {
		*slot = (struct stack_count){.handle = handle, .first_ts_nsec = UINT64_MAX};
		counts->nr++;
	}
	return slot;
}

bool count_stacks(const struct po_table *table, bool early, struct stack_counts *counts)
{
	u64 dropped_pfn = table->start_pfn, next;
	struct stack_count *slot = NULL;

	for (u64 pfn = table->start_pfn; pfn < table->end_pfn; pfn = next) {
		const struct page_owner *shared = record_at(table, pfn);
		u64 ts = atomic_load_explicit((const _Atomic u64 *)&shared->ts_nsec,
					      memory_order_acquire);
		u32 handle = *(const volatile u32 *)&shared->handle;
		u8 order = *(const volatile u8 *)&shared->order, state = state_of(shared);

		next = pfn + 1;
		__builtin_prefetch(&shared[PREFETCH_PFNS]);
		if (pfn % 4096 == 0)
			drop_behind(table, &dropped_pfn, pfn);
		if (!(state & PAGE_EXT_OWNER_ALLOCATED))
			continue;
		if (is_early(table, state)) {
			handle = table->early->handle;
			order = table->early->order;
		}
		/*
		 * Of a page that has changed hands meanwhile only one owner counts: the next pass
		 * shows which.
		 */
		if (is_tail(table, pfn, order) || !handle ||
		    (!early && state & PAGE_EXT_OWNER_EARLY) ||
		    ts != *(const volatile u64 *)&shared->ts_nsec)
			continue;
		next = pfn_after(table, pfn, order);
		if (!slot || slot->handle != handle) {
			slot = get_slot(counts, handle);
			if (!slot)
				return false;
		}
		slot->nr_base_pages += 1ULL << (order & 63);
		if (is_early(table, state))
			ts = table->early->ts_nsec;
		if (ts < slot->first_ts_nsec)
			slot->first_ts_nsec = ts;
	}
	drop_behind(table, &dropped_pfn, table->end_pfn);
	return true;
}
