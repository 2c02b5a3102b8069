/* SPDX-License-Identifier: MIT */
/* The lock of a zone, and the repair of what a dead holder left. */
#ifndef PAGEOWNERFS_ZONE_H
#define PAGEOWNERFS_ZONE_H

#include "pool/layout.h"

/* 0 or a negative error of pool_mutex_lock(). Repairs what a dead holder left. */
int zone_lock(struct pool *pool, unsigned int zone, u64 nsec);
void zone_unlock(struct pool *pool, unsigned int zone);
/*
 * Rebuild the free lists and counters of a zone from the page words. Pages that no allocated, owned
 * or reserved block covers are free. Used when the holder of the lock has died, and when the lists
 * are inconsistent. Zone lock held.
 */
void rebuild_zone(struct pool *pool, unsigned int zone);

/* How many pages the word at pfn covers: at least 1, and never beyond end_pfn. */
static inline u32 covered(u64 word, u32 pfn, u32 end_pfn)
{
	unsigned int order = word_order(word);

	if (order > MAX_PAGE_ORDER || pfn & ((1U << order) - 1) || end_pfn - pfn < 1U << order)
		return 1;
	return 1U << order;
}

#endif
