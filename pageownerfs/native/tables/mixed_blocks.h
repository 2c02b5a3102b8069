/* SPDX-License-Identifier: MIT */
/*
 * Pageblocks with an owner whose mask asks for a migratetype other than the block's.
 *
 * Mirrors pagetypeinfo_showmixedcount_print() of mm/page_owner.c.
 */
#ifndef PAGEOWNERFS_MIXED_BLOCKS_H
#define PAGEOWNERFS_MIXED_BLOCKS_H

#include "tables/table.h"

#define NR_MIGRATETYPES 8

/* Where to look: a range of PFNs and, in tables with more than one, a node and a zone; -1: any. */
struct mixed_range {
	u64 start_pfn, end_pfn;
	int nid, zone;
	int cma; /* the number of the migratetype CMA, which counts as Movable; -1: none */
};

/*
 * table_ops.mixed_blocks: adds to counts[NR_MIGRATETYPES], by the block's type. False: no memory.
 */
bool pool_mixed_blocks(const struct table *table, const struct mixed_range *range, u64 *counts);
bool kernel_mixed_blocks(const struct table *table, const struct mixed_range *range, u64 *counts);
bool record_mixed_blocks(const struct table *table, const struct mixed_range *range, u64 *counts);

#endif
