/* SPDX-License-Identifier: MIT */
/*
 * The gfp mask bits that the core acts on, and the migratetype that a mask asks for. Mirrors
 * include/linux/gfp.h and gfp_types.h (6.12); mm/gfp.py has the whole table.
 */
#ifndef PAGEOWNERFS_GFP_H
#define PAGEOWNERFS_GFP_H

#include "base/types.h"

#define __GFP_DMA 0x1u
#define __GFP_HIGHMEM 0x2u
#define __GFP_DMA32 0x4u
#define __GFP_MOVABLE 0x8u
#define __GFP_RECLAIMABLE 0x10u
#define __GFP_HIGH 0x20u
#define __GFP_ZERO 0x100u
#define __GFP_DIRECT_RECLAIM 0x400u
#define __GFP_NOFAIL 0x8000u
#define __GFP_MEMALLOC 0x20000u
#define __GFP_COMP 0x40000u
#define __GFP_NOMEMALLOC 0x80000u
#define GFP_MOVABLE_MASK (__GFP_RECLAIMABLE | __GFP_MOVABLE)
#define GFP_KERNEL 0xcc0u

/* An enum migratetype. A mask with both bits set is contradictory and yields MIGRATE_PCPTYPES. */
static inline unsigned int gfp_migratetype(u32 gfp_mask)
{
	return (gfp_mask & GFP_MOVABLE_MASK) >> 3;
}

#endif
