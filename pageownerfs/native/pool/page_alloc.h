/* SPDX-License-Identifier: MIT */
/*
 * Allocating, freeing and splitting blocks of pages. Mirrors mm/page_alloc.c.
 *
 * None of these waits for long. Where one can't go on it returns an error, outside of an operation
 * again, and its caller calls reclaim() and then the function once more:
 *
 * -EAGAIN  tracking is on: call again with the caller's stack as handle
 * -EBUSY   the pool is frozen, or somebody holds a lock
 * -EUSERS  all slots of clients are taken, perhaps by dead ones
 * -ENOMEM  nothing free, -ENOSPC: nothing left in /dev/shm; only of a mask with
 *          __GFP_DIRECT_RECLAIM, and once: the next time drained is true
 */
#ifndef PAGEOWNERFS_PAGE_ALLOC_H
#define PAGEOWNERFS_PAGE_ALLOC_H

#include "pool/layout.h"

/*
 * 2^order pages into *pfn. handle: the caller's stack, if tracking is on; drained: reclaim() has
 * been called for this allocation. -EINVAL: the mask or the order.
 */
int alloc_pages(struct pool *pool, unsigned int order, u32 gfp_mask, u32 handle, bool drained,
		u32 *pfn);
/*
 * __free_pages(), put_page(): drop a reference, and free the block with the last one. order: what
 * the caller believes it is, -1 = any. -BAD_*: refused, nothing has changed.
 */
int free_pages(struct pool *pool, u32 pfn, int order, u32 handle);
/* An allocated block becomes blocks of new_order, each with a reference of its own. Or -BAD_*. */
int split_page(struct pool *pool, u32 pfn, unsigned int new_order);

#endif
