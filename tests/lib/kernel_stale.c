// SPDX-License-Identifier: MIT
/*
 * kernel_stale.c - finds records that disagree with their pages. kernel_stale.py loads it as a
 * library.
 */
#include <stddef.h>

#include "base/page_owner.h"

/* A word that changes whenever the record does. */
static u64 digest(const volatile struct page_owner *owner)
{
	return owner->ts_nsec * 0x9e3779b97f4a7c15ULL ^
	       owner->free_ts_nsec * 0xc2b2ae3d27d4eb4fULL ^ owner->state;
}

void take_digests(const volatile struct page_owner *owner, size_t nr, u64 *digests)
{
	for (size_t pfn = 0; pfn < nr; pfn++)
		digests[pfn] = digest(&owner[pfn]);
}

struct counts {
	u64 allocated, stale, unseen;
};

/*
 * used is the table of another tracker, created just now, in which a page has a record if it is in
 * use. Only records that have not changed since the digests were taken count. Of a block only the
 * first page counts.
 */
void compare(const volatile struct page_owner *owner, const volatile struct page_owner *used,
	     size_t nr, const u64 *digests, struct counts *counts, u64 *stale, size_t max_stale)
{
	for (size_t pfn = 0; pfn < nr; pfn++) {
		u8 state = owner[pfn].state, order = owner[pfn].order;
		int in_use = used[pfn].state & PAGE_EXT_OWNER_ALLOCATED;

		if (digest(&owner[pfn]) != digests[pfn])
			continue;
		if (!(state & PAGE_EXT_OWNER_ALLOCATED)) {
			counts->unseen += in_use != 0;
			continue;
		}
		if (!(state & PAGE_EXT_OWNER_EARLY) && pfn & ((1UL << (order & 31)) - 1))
			continue;
		counts->allocated++;
		if (in_use)
			continue;
		if (counts->stale < max_stale)
			stale[counts->stale] = pfn;
		counts->stale++;
	}
}
