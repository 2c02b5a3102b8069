/* SPDX-License-Identifier: MIT */
/* What the allocator's parts share, as mm/internal.h. */
#ifndef PAGEOWNERFS_INTERNAL_H
#define PAGEOWNERFS_INTERNAL_H

#include "pool/pool.h"

#define ALLOC_WMARK_MASK 0x3u /* index into zone.watermark */
#define ALLOC_NO_WATERMARKS 0x4u
#define ALLOC_MIN_RESERVE 0x8u /* __GFP_HIGH: half of the min watermark may be used */
#define ALLOC_NON_BLOCK 0x10u  /* can't wait: another quarter */
#define ALLOC_HIGHATOMIC 0x20u
#define ALLOC_CMA 0x40u

struct alloc_context {
	unsigned int order, mt, highest_zone, alloc_flags;
	u32 gfp_mask, handle;
	u32 gate; /* as begin_op() last saw it */
	/* of fallocate (-ENOSPC, -ENOMEM), of a lock (-EBUSY), -EAGAIN; 0: nothing free */
	int error;
};

int begin_op(struct pool *pool);
u32 rmqueue_buddy(struct pool *pool, unsigned int zone, struct alloc_context *ac);
void rmqueue_bulk(struct pool *pool, unsigned int zone, struct alloc_context *ac, struct pcp *pcp);

static inline void end_op(struct pool *pool)
{
	atomic_store_explicit(&pool->client->in_op, 0, memory_order_release);
}

/* What a word says about a PFN that should be an allocated head: 0 or -BAD_*. */
static inline int check_allocated(u64 word)
{
	switch (word_state(word)) {
	case PAGE_ALLOCATED:
		return word_order(word) <= MAX_PAGE_ORDER ? 0 : -BAD_PFN;
	case PAGE_TAIL:
		return -BAD_TAIL;
	case PAGE_RESERVED:
		return -BAD_PFN;
	default:
		return -BAD_FREE;
	}
}

#endif
