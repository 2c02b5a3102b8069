/* SPDX-License-Identifier: MIT */
/*
 * Updates of a page's record when the page changes hands. Mirrors include/linux/page_owner.h. The
 * caller owns the block (PAGE_PCP) during the update.
 */
#ifndef PAGEOWNERFS_POOL_PAGE_OWNER_H
#define PAGEOWNERFS_POOL_PAGE_OWNER_H

#include "pool/layout.h"

/* Does the page count towards its stack? Early pages never did. */
static inline bool is_counted(const struct page_owner *owner)
{
	return (owner->state & (PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY)) ==
	       PAGE_EXT_OWNER_ALLOCATED;
}

#if CONFIG_PAGE_OWNER
void __set_page_owner(struct pool *pool, u32 pfn, unsigned int order, u32 gfp_mask, u32 handle);
void __reset_page_owner(struct pool *pool, u32 pfn, unsigned int order, u32 handle);
void __split_page_owner(struct pool *pool, u32 pfn, unsigned int old_order, unsigned int new_order);
/*
 * Mark a block as not allocated: it never reached its caller, or its client died while freeing it.
 */
void clear_page_owner(struct pool *pool, u32 pfn, unsigned int order);
/* Undo a half-done split. split: some of the block's words had already changed. */
void unsplit_page_owner(struct pool *pool, u32 pfn, unsigned int order, bool split);
/*
 * The record for all pages found allocated when tracking is switched on; this thread is the
 * allocator.
 */
struct page_owner early_page_owner(const struct pool *pool);
void set_early_page_owner(struct pool *pool, u32 pfn, const struct page_owner *early);
/* The child of fork() calls this, because its thread has another id. */
void page_owner_forked(void);

/* gate is what begin_op() returned. */
static inline void set_page_owner(struct pool *pool, u32 gate, u32 pfn, unsigned int order,
				  u32 gfp_mask, u32 handle)
{
	if (unlikely(gate & GATE_PAGE_OWNER))
		__set_page_owner(pool, pfn, order, gfp_mask, handle);
}

static inline void reset_page_owner(struct pool *pool, u32 gate, u32 pfn, unsigned int order,
				    u32 handle)
{
	if (unlikely(gate & GATE_PAGE_OWNER))
		__reset_page_owner(pool, pfn, order, handle);
}

static inline void split_page_owner(struct pool *pool, u32 gate, u32 pfn, unsigned int old_order,
				    unsigned int new_order)
{
	if (unlikely(gate & GATE_PAGE_OWNER))
		__split_page_owner(pool, pfn, old_order, new_order);
}
#else
#define set_page_owner(pool, gate, pfn, order, gfp_mask, handle) ((void)(gate), (void)(handle))
#define reset_page_owner(pool, gate, pfn, order, handle) ((void)(gate), (void)(handle))
#define split_page_owner(pool, gate, pfn, old_order, new_order) ((void)(gate))
#define clear_page_owner(pool, pfn, order) ((void)0)
#define unsplit_page_owner(pool, pfn, order, split) ((void)(split))
#define page_owner_forked() ((void)0)
#endif

#endif
