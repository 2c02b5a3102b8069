/* SPDX-License-Identifier: MIT */
/* Pageblocks and their migratetypes: fallback, stealing, the HighAtomic reserve. Zone lock held. */
#ifndef PAGEOWNERFS_PAGEBLOCK_H
#define PAGEOWNERFS_PAGEBLOCK_H

#include "pool/layout.h"

/*
 * __rmqueue_fallback(): the lists of mt have nothing of this order. Move a block of another type to
 * them: the largest that there is, up to max_order, or - where only single pages may be taken - the
 * smallest.
 */
bool rmqueue_fallback(struct pool *pool, unsigned int zone, unsigned int order,
		      unsigned int max_order, unsigned int mt);
/*
 * A high-order atomic allocation succeeded in this block: keep its rest for others, 1 % of the zone
 * at most.
 */
void reserve_highatomic_pageblock(struct pool *pool, unsigned int zone, u32 pfn);
/* Out of memory otherwise: give a reserved block with free pages to mt. */
bool unreserve_highatomic_pageblock(struct pool *pool, unsigned int zone, unsigned int mt);

#endif
