/* SPDX-License-Identifier: MIT */
/*
 * Allocating, freeing and splitting blocks of pages. Mirrors mm/page_alloc.c.
 *
 * None of these functions waits for long. One that cannot proceed leaves the operation and returns
 * an error. Its caller then calls reclaim() and tries again:
 *
 * -EAGAIN  tracking is on: call again with the caller's stack as handle
 * -EBUSY   the pool is frozen, or a lock is held
 * -EUSERS  all client slots are taken, perhaps by dead clients
 * -ENOMEM  nothing is free; -ENOSPC: /dev/shm is full. Try again only if the mask has
 *          __GFP_DIRECT_RECLAIM, and only once, with drained set
 */
#ifndef PAGEOWNERFS_PAGE_ALLOC_H
#define PAGEOWNERFS_PAGE_ALLOC_H

#include "pool/layout.h"

/*
 * Allocate 2^order pages; *pfn is the first. handle: the caller's stack, if tracking is on;
 * drained: reclaim() has been called for this allocation. -EINVAL: invalid mask or order.
 */
int alloc_pages(struct pool *pool, unsigned int order, u32 gfp_mask, u32 handle, bool drained,
		u32 *pfn);
/*
 * __free_pages(), put_page(): drop a reference; the last one frees the block. order: what the
 * caller believes the order is, -1 = any. -BAD_*: refused, and nothing has changed.
 */
int free_pages(struct pool *pool, u32 pfn, int order, u32 handle);
/* Split an allocated block into blocks of new_order, each with its own reference. 0 or -BAD_*. */
int split_page(struct pool *pool, u32 pfn, unsigned int new_order);

#endif
