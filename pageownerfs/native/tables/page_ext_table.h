/* SPDX-License-Identifier: MIT */
/* What the tables of a pool and of the kernel have in common: both are by page. */
#ifndef PAGEOWNERFS_PAGE_EXT_TABLE_H
#define PAGEOWNERFS_PAGE_EXT_TABLE_H

#include <string.h>

#include "tables/table.h"

#define PREFETCH_PFNS 32
#define NR_STATES 8 /* read by page_ext_next() in one go */
#define COPY_TRIES 64

static inline u8 state_of(const struct page_owner *shared)
{
	return *(const volatile u8 *)&shared->state;
}

static inline u8 order_of(const struct page_owner *shared)
{
	return *(const volatile u8 *)&shared->order;
}

/*
 * The parameter early of these functions is the record that every early page shows; of such a
 * page's own record only the state counts, the rest is left from an earlier allocation. NULL: every
 * page shows its own record.
 */
static inline bool is_early(const struct page_owner *early, u8 state)
{
	return early && state & PAGE_EXT_OWNER_EARLY;
}

/* table_ops.next */
static __always_inline u64 page_ext_next(const struct table *table,
					 const struct page_owner *page_ext,
					 const struct page_owner *early, u64 pfn, u64 end)
{
	for (; pfn < end; pfn++) {
		const struct page_owner *shared = &page_ext[pfn];
		u8 state = state_of(shared);

		if (state & PAGE_EXT_OWNER_ALLOCATED) {
			if (!is_tail(table, pfn,
				     is_early(early, state) ? early->order : order_of(shared)))
				break;
			continue;
		}
		/* Free pages come in runs, so look at several at once. */
		for (; pfn + NR_STATES < end; pfn += NR_STATES, shared += NR_STATES) {
			u8 any = 0;

			__builtin_prefetch(&shared[PREFETCH_PFNS]);
			for (int i = 1; i <= NR_STATES; i++)
				any |= state_of(&shared[i]);
			if (any & PAGE_EXT_OWNER_ALLOCATED)
				break;
		}
	}
	return pfn;
}

/*
 * Copy the record of an allocated page; false if there is none. ts_nsec is different for each
 * allocation of a page. It is stored before the other fields, and state after them: if neither
 * changed during the copy, everything between belongs to one allocation.
 */
static __always_inline bool copy_allocated(const struct page_owner *shared,
					   const struct page_owner *early, struct page_owner *copy)
{
	for (int try = 0; try < COPY_TRIES; try++) {
		u64 ts = atomic_load_explicit((const _Atomic u64 *)&shared->ts_nsec,
					      memory_order_acquire);
		u8 state = atomic_load_explicit((const _Atomic u8 *)&shared->state,
						memory_order_acquire);

		if (!(state & PAGE_EXT_OWNER_ALLOCATED))
			return false;
		if (is_early(early, state)) {
			*copy = *early;
			return true;
		}
		memcpy(copy, (const void *)shared, sizeof(*copy));
		barrier();
		atomic_thread_fence(memory_order_acquire);
		if (likely(ts == atomic_load_explicit((const _Atomic u64 *)&shared->ts_nsec,
						      memory_order_relaxed) &&
			   state == atomic_load_explicit((const _Atomic u8 *)&shared->state,
							 memory_order_relaxed) &&
			   copy->ts_nsec == ts)) {
			copy->state = state;
			return true;
		}
	}
	return false; /* keeps changing hands: as good as free */
}

/* table_ops.copy */
static __always_inline bool page_ext_copy(const struct page_owner *page_ext,
					  const struct page_owner *early, u64 pfn,
					  struct record *record)
{
	__builtin_prefetch(&page_ext[pfn + PREFETCH_PFNS]);
	record->at = record->pfn = pfn;
	if (likely(copy_allocated(&page_ext[pfn], early, &record->owner)))
		return true;
	memcpy(&record->owner, (const void *)&page_ext[pfn], sizeof(record->owner));
	record->owner.state &= (u8)~PAGE_EXT_OWNER_ALLOCATED;
	return false;
}

/* table_ops.find and seek */
static inline u64 page_ext_find(const struct table *table, u64 pfn)
{
	return pfn >= table->start && pfn < table->end ? pfn : table->end;
}

static inline u64 page_ext_seek(const struct table *table, u64 pfn)
{
	return pfn < table->start ? table->start : pfn;
}

#endif
