/* SPDX-License-Identifier: MIT */
/* Pageblocks and their migratetypes: fallback, stealing, the HighAtomic reserve. Zone lock held. */
#ifndef PAGEOWNERFS_PAGEBLOCK_H
#define PAGEOWNERFS_PAGEBLOCK_H

#include "pool/layout.h"

/*
 * __rmqueue_fallback(): the lists of mt have no block of this order, so move a block of another
 * type to them: the largest one up to max_order or, where only single blocks may be taken, the
 * smallest.
 */
bool rmqueue_fallback(struct pool *pool, unsigned int zone, unsigned int order,
		      unsigned int max_order, unsigned int mt);
/*
 * A high-order atomic allocation succeeded in this pageblock: reserve the rest of it for others
 * like it, up to 1 % of the zone.
 */
void reserve_highatomic_pageblock(struct pool *pool, unsigned int zone, u32 pfn);
/* Last resort before an allocation fails: give a reserved pageblock with free pages to mt. */
bool unreserve_highatomic_pageblock(struct pool *pool, unsigned int zone, unsigned int mt);

#endif
