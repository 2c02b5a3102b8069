/* SPDX-License-Identifier: MIT */
/* The lock of a zone, and the repair of what a dead holder leaves. */
#ifndef PAGEOWNERFS_ZONE_H
#define PAGEOWNERFS_ZONE_H

#include "pool/layout.h"

/* 0, or as pool_mutex_lock(). What a dead holder has left is mended here. */
int zone_lock(struct pool *pool, unsigned int zone, u64 nsec);
void zone_unlock(struct pool *pool, unsigned int zone);
/*
 * Make the free lists and counters of a zone anew: what no allocated, held or reserved head covers
 * is free. For a dead holder's zone, and for lists that make no sense. Zone lock held.
 */
void rebuild_zone(struct pool *pool, unsigned int zone);

/* Pages that the word at pfn covers, at least 1, never beyond end_pfn. */
static inline u32 covered(u64 word, u32 pfn, u32 end_pfn)
{
	unsigned int order = word_order(word);

	if (order > MAX_PAGE_ORDER || pfn & ((1U << order) - 1) || end_pfn - pfn < 1U << order)
		return 1;
	return 1U << order;
}

#endif
