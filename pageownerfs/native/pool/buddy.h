/* SPDX-License-Identifier: MIT */
/* Blocks on and off the free lists of a zone, split and merged. Zone lock held. */
#ifndef PAGEOWNERFS_BUDDY_H
#define PAGEOWNERFS_BUDDY_H

#include "pool/layout.h"

/* alloc_context.alloc_flags, as in mm/internal.h */
#define ALLOC_WMARK_MASK 0x3u /* index into zone.watermark */
#define ALLOC_NO_WATERMARKS 0x4u
#define ALLOC_MIN_RESERVE 0x8u /* __GFP_HIGH: half of the min watermark may be used */
#define ALLOC_NON_BLOCK 0x10u  /* can't wait: another quarter */
#define ALLOC_HIGHATOMIC 0x20u
#define ALLOC_CMA 0x40u

struct alloc_context {
	unsigned int order, mt, highest_zone, alloc_flags;
	u32 gfp_mask;
	/* of fallocate (-ENOSPC, -ENOMEM), of a lock (-EBUSY); 0: nothing free */
	int error;
};

/*
 * __free_one_page(): put a block on the free lists, merged with its free buddies. The block is not
 * free yet by its word.
 */
void free_one_page(struct pool *pool, unsigned int zone, u32 pfn, unsigned int order,
		   u32 hole_bits);
/* Free a block that some client has in its hands. */
void free_pcp_block(struct pool *pool, u32 pfn, unsigned int order);
/* The block of order > 0, or the one page that bypasses the order-0 list; 0: none. */
u32 rmqueue_buddy(struct pool *pool, unsigned int zone, struct alloc_context *ac);
/* Fill the order-0 list, so that popping yields ascending addresses. */
void rmqueue_bulk(struct pool *pool, unsigned int zone, struct alloc_context *ac, struct pcp *pcp);

#endif
