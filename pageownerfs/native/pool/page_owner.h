/* SPDX-License-Identifier: MIT */
/*
 * Who allocated each page: the record of a page when it changes hands. Mirrors
 * include/linux/page_owner.h. The block is in the caller's hands (PAGE_PCP) meanwhile.
 */
#ifndef PAGEOWNERFS_POOL_PAGE_OWNER_H
#define PAGEOWNERFS_POOL_PAGE_OWNER_H

#include "pool/layout.h"

/* Does the page count for its stack? Early ones never did. */
static inline bool is_counted(const struct page_owner *owner)
{
	return (owner->state & (PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY)) ==
	       PAGE_EXT_OWNER_ALLOCATED;
}

#if CONFIG_PAGE_OWNER
void __set_page_owner(struct pool *pool, u32 pfn, unsigned int order, u32 gfp_mask, u32 handle);
void __reset_page_owner(struct pool *pool, u32 pfn, unsigned int order, u32 handle);
void __split_page_owner(struct pool *pool, u32 pfn, unsigned int old_order, unsigned int new_order);
/* Of a block that never reached its caller, or whose freer died: no longer allocated. */
void clear_page_owner(struct pool *pool, u32 pfn, unsigned int order);
/* A half-done split is undone; split: some of the block's words had changed. */
void unsplit_page_owner(struct pool *pool, u32 pfn, unsigned int order, bool split);
/* The record of all pages that this thread finds allocated when tracking is switched on. */
struct page_owner early_page_owner(const struct pool *pool);
void set_early_page_owner(struct pool *pool, u32 pfn, const struct page_owner *early);
/* In the child of fork(): the thread has another id. */
void page_owner_forked(void);

/* gate: as begin_op() has returned it. */
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
