/* SPDX-License-Identifier: MIT */
/*
 * Taking blocks from the free lists of a zone and putting them back, with splitting and merging.
 * Zone lock held.
 */
#ifndef PAGEOWNERFS_BUDDY_H
#define PAGEOWNERFS_BUDDY_H

#include "pool/layout.h"

/* alloc_context.alloc_flags, as in mm/internal.h */
#define ALLOC_WMARK_MASK 0x3u /* index into zone.watermark */
#define ALLOC_NO_WATERMARKS 0x4u
#define ALLOC_MIN_RESERVE 0x8u /* __GFP_HIGH: half of the min watermark may be used */
#define ALLOC_NON_BLOCK 0x10u  /* can't wait: another quarter may be used */
#define ALLOC_HIGHATOMIC 0x20u
#define ALLOC_CMA 0x40u

struct alloc_context {
	unsigned int order, mt, highest_zone, alloc_flags;
	u32 gfp_mask;
	/* -ENOSPC or -ENOMEM of fallocate(), -EBUSY of a lock; 0: nothing is free */
	int error;
};

/*
 * __free_one_page(): merge a block with its free buddies and put it on the free lists. Its word
 * does not say yet that it is free.
 */
void free_one_page(struct pool *pool, unsigned int zone, u32 pfn, unsigned int order,
		   u32 hole_bits);
/* Free a block that a client owns (PAGE_PCP). */
void free_pcp_block(struct pool *pool, u32 pfn, unsigned int order);
/* Take a block of order > 0, or a single page that bypasses the order-0 list; 0: none. */
u32 rmqueue_buddy(struct pool *pool, unsigned int zone, struct alloc_context *ac);
/* Fill the order-0 list such that popping yields ascending addresses. */
void rmqueue_bulk(struct pool *pool, unsigned int zone, struct alloc_context *ac, struct pcp *pcp);

#endif
