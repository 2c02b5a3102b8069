/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_MIXED_BLOCKS_H
#define PAGEOWNERFS_MIXED_BLOCKS_H

#include "text/render.h"

#define NR_MIGRATETYPES 8

/*
 * Where to look: [start_pfn, end_pfn), and in a record_list nid and zone as the flags have them,
 * too; -1: any.
 */
struct mixed_range {
	u64 start_pfn, end_pfn;
	int nid, zone;
	int cma; /* number of that migratetype; -1: none */
};

/* Blocks by their own type. False: no memory. */
bool count_mixed_blocks(const struct po_table *table, const struct mixed_range *range,
			u64 counts[NR_MIGRATETYPES]);

#endif
