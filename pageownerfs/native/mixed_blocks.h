/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_MIXED_BLOCKS_H
#define PAGEOWNERFS_MIXED_BLOCKS_H

#include "render.h"

#define NR_MIGRATETYPES 8

/* Blocks of [start_pfn, end_pfn) by their own type; cma: number of that type, -1: none. False: no memory. */
bool count_mixed_blocks(const struct po_table *table, u64 start_pfn, u64 end_pfn, int cma,
			u64 counts[NR_MIGRATETYPES]);

#endif
