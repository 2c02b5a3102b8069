// SPDX-License-Identifier: MIT
/*
 * page_alloc.c - allocating, freeing and splitting blocks of pages.
 *
 * Mirrors mm/page_alloc.c (6.12): zones, free lists per order and migratetype, fallback, order-0
 * lists per client, watermarks. The differences come from clients being processes: locks are
 * robust, page->word is the truth (layout.h), free memory is given back to the system, and waiting
 * is left to the caller (reclaim.h).
 */
#include <errno.h>
#include <string.h>

#include "base/gfp.h"
#include "pool/buddy.h"
#include "pool/client.h"
#include "pool/free_area.h"
#include "pool/lock.h"
#include "pool/page_alloc.h"
#include "pool/page_owner.h"
#include "pool/page_ref.h"
#include "pool/page_reporting.h"
#include "pool/pageblock.h"
#include "pool/pcp.h"
#include "pool/zone.h"

/* __zone_watermark_ok(): may this allocation take from the zone? */
static bool zone_watermark_ok(const struct zone *z, const struct alloc_context *ac)
{
	long long free = (long long)z->nr_free - ((1 << ac->order) - 1);
	long long min = (long long)z->watermark[ac->alloc_flags & ALLOC_WMARK_MASK];

	if (ac->alloc_flags & ALLOC_NO_WATERMARKS)
		return true;
	if (!(ac->alloc_flags & (ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK)))
		for (unsigned int order = 0; order <= MAX_PAGE_ORDER; order++)
			free -= (long long)z->free_area[order].nr_free[MIGRATE_HIGHATOMIC] << order;
	if (!(ac->alloc_flags & ALLOC_CMA))
		free -= (long long)z->nr_free_cma;
	if (ac->alloc_flags & ALLOC_MIN_RESERVE)
		min -= min / 2;
	if (ac->alloc_flags & ALLOC_NON_BLOCK)
		min -= min / 4;
	return free > min + (long long)z->lowmem_reserve[ac->highest_zone];
}

/* 0: the zone has nothing for us. */
static u32 rmqueue(struct pool *pool, unsigned int zone, struct alloc_context *ac)
{
	struct pcp *pcp = &pool->client->pcp[zone][ac->mt];
	u32 pfn = ac->order == 0 ? pcp_pop(pool, pcp) : 0;
	int error;

	if (pfn)
		return pfn;
	error = zone_lock(pool, zone, OPERATION_NSEC);
	if (error) {
		ac->error = error;
		return 0;
	}
	if (zone_watermark_ok(pool_zone(pool, zone), ac)) {
		if (ac->order == 0 && !(ac->alloc_flags & ALLOC_NON_BLOCK)) {
			rmqueue_bulk(pool, zone, ac, pcp);
			pfn = pcp_pop(pool, pcp);
		} else {
			pfn = rmqueue_buddy(pool, zone, ac);
		}
	}
	zone_unlock(pool, zone);
	return pfn;
}

static u32 get_page_from_freelist(struct pool *pool, struct alloc_context *ac)
{
	for (int zone = (int)ac->highest_zone; zone >= 0; zone--) {
		u32 pfn;

		if (pool->zone_span[zone].start_pfn == pool->zone_span[zone].end_pfn)
			continue;
		pfn = rmqueue(pool, (unsigned int)zone, ac);
		if (pfn || ac->error == -EBUSY)
			return pfn;
	}
	return 0;
}

/* gfp_zone(): the highest zone that the mask allows, or -EINVAL for a contradictory mask. */
static int gfp_zone(u32 gfp_mask)
{
	switch (gfp_mask & (__GFP_DMA | __GFP_HIGHMEM | __GFP_DMA32 | __GFP_MOVABLE)) {
	case __GFP_DMA:
	case __GFP_DMA | __GFP_MOVABLE:
		return ZONE_DMA;
	case __GFP_HIGHMEM | __GFP_MOVABLE:
		return ZONE_MOVABLE;
	case 0:
	case __GFP_HIGHMEM:
	case __GFP_DMA32:
	case __GFP_MOVABLE:
	case __GFP_MOVABLE | __GFP_DMA32:
		return ZONE_NORMAL;
	default:
		return -EINVAL;
	}
}

/* gfp_to_alloc_flags(): how deep into the reserves a second try may go. */
static unsigned int slowpath_flags(u32 gfp_mask, unsigned int order)
{
	unsigned int flags = WMARK_MIN;

	if (gfp_mask & __GFP_HIGH)
		flags |= ALLOC_MIN_RESERVE;
	if (!(gfp_mask & __GFP_DIRECT_RECLAIM) && !(gfp_mask & __GFP_NOMEMALLOC)) {
		flags |= ALLOC_NON_BLOCK;
		if (order > 0 && gfp_mask & __GFP_HIGH)
			flags |= ALLOC_HIGHATOMIC;
	}
	if (gfp_mask & __GFP_MEMALLOC && !(gfp_mask & __GFP_NOMEMALLOC))
		flags |= ALLOC_NO_WATERMARKS;
	if (gfp_migratetype(gfp_mask) == MIGRATE_MOVABLE)
		flags |= ALLOC_CMA;
	return flags;
}

/* Tracking is on, but the caller has not brought its stack. */
static inline bool needs_handle(u32 gate, u32 handle)
{
	return CONFIG_PAGE_OWNER && gate & GATE_PAGE_OWNER && !handle;
}

/* Give some of the HighAtomic reserve to ordinary allocations; false: there is none left. */
static bool unreserve_highatomic(struct pool *pool, const struct alloc_context *ac)
{
	bool progress = false;

	for (unsigned int zone = 0; zone <= ac->highest_zone; zone++)
		if (zone_lock(pool, zone, OPERATION_NSEC) == 0) {
			progress |= unreserve_highatomic_pageblock(pool, zone, ac->mt);
			zone_unlock(pool, zone);
		}
	return progress;
}

/* drained: the caller has called reclaim(), so only the HighAtomic reserve is left to try. */
static u32 alloc_pages_slowpath(struct pool *pool, struct alloc_context *ac, bool drained)
{
	bool progress;
	u32 pfn;

	if (!drained) {
		ac->alloc_flags = WMARK_LOW | (ac->mt == MIGRATE_MOVABLE ? ALLOC_CMA : 0);
		pfn = get_page_from_freelist(pool, ac);
		if (pfn || ac->error == -EBUSY)
			return pfn;
	}
	ac->alloc_flags = slowpath_flags(ac->gfp_mask, ac->order);
	do {
		progress = drained && unreserve_highatomic(pool, ac);
		ac->error = 0;
		pfn = get_page_from_freelist(pool, ac);
	} while (!pfn && progress && ac->error != -EBUSY);
	return pfn;
}

/*
 * prep_new_page(): hand a block that we own (PAGE_PCP) to the caller. The record is written first
 * and the word last, so no page is ever allocated without an owner.
 */
static __always_inline void prep_new_page(struct pool *pool, u32 pfn, unsigned int order,
					  u32 gfp_mask, u32 gate, u32 handle)
{
	struct page *page = pfn_to_page(pool, pfn);

	page->gfp_mask = gfp_mask;
	if (gfp_mask & __GFP_ZERO)
		memset(page_address(pool, pfn), 0, PAGE_SIZE << order);
	for (u32 nr = 1; nr < 1U << order; nr++)
		set_page_word(pool, pfn + nr, PAGE_WORD(PAGE_TAIL, 0, 0, 0));
	if (order && gfp_mask & __GFP_COMP)
		page->flags |= 1ULL << PG_head;
	set_page_owner(pool, gate, pfn, order, gfp_mask, handle);
	set_page_word(pool, pfn, PAGE_WORD(PAGE_ALLOCATED, order, 0, 1));
	pool->client->pgalloc += 1U << order;
}

/* Find a block; the arguments have been checked. An error ends the operation. */
static __always_inline int __alloc_pages(struct pool *pool, struct alloc_context *ac, int zone,
					 bool drained, u32 *pfn)
{
	struct pcp *pcp;
	int error;

	ac->highest_zone = pool->first_zone[zone];
	pcp = &pool->client->pcp[ac->highest_zone][ac->mt];
	*pfn = likely(ac->order == 0) ? pcp_pop(pool, pcp) : 0;
	if (unlikely(*pfn == 0))
		*pfn = alloc_pages_slowpath(pool, ac, drained);
	if (likely(*pfn))
		return 0;
	end_op(pool);
	error = ac->error ? ac->error : -ENOMEM;
	if (error != -EBUSY && (drained || !(ac->gfp_mask & __GFP_DIRECT_RECLAIM)))
		stat_inc(pool, oom);
	return error;
}

/* alloc_pages() for the uncommon cases: see begin_op_fast(). */
static __attribute__((noinline)) int alloc_pages_gated(struct pool *pool, struct alloc_context ac,
						       int zone, u32 handle, bool drained, u32 *pfn)
{
	int gate = begin_op(pool), error;

	if (gate < 0)
		return gate;
	if (needs_handle((u32)gate, handle)) {
		end_op(pool);
		return -EAGAIN;
	}
	error = __alloc_pages(pool, &ac, zone, drained, pfn);
	if (error)
		return error;
	prep_new_page(pool, *pfn, ac.order, ac.gfp_mask, (u32)gate, handle);
	end_op(pool);
	return 0;
}

int alloc_pages(struct pool *pool, unsigned int order, u32 gfp_mask, u32 handle, bool drained,
		u32 *pfn)
{
	struct alloc_context ac = {
		.order = order, .mt = gfp_migratetype(gfp_mask), .gfp_mask = gfp_mask};
	int error, zone = gfp_zone(gfp_mask);

	if (unlikely(zone < 0 || order > MAX_PAGE_ORDER || ac.mt >= MIGRATE_PCPTYPES ||
		     gfp_mask & __GFP_NOFAIL))
		return -EINVAL;
	if (unlikely(!begin_op_fast(pool)))
		return alloc_pages_gated(pool, ac, zone, handle, drained, pfn);
	error = __alloc_pages(pool, &ac, zone, drained, pfn);
	if (unlikely(error))
		return error;
	prep_new_page(pool, *pfn, order, gfp_mask, 0, 0);
	end_op(pool);
	return 0;
}

static int free_high_order(struct pool *pool, u32 pfn, int order, u32 gate, u32 handle)
{
	unsigned int zone = page_zone(pool, pfn);
	unsigned int real_order = word_order(page_word(pool, pfn));
	int error = zone_lock(pool, zone, OPERATION_NSEC);

	if (error)
		return error;
	error = put_page_testzero(pool, pfn, order);
	if (error == 1) {
		real_order = word_order(page_word(pool, pfn));
		reset_page_owner(pool, gate, pfn, real_order, handle);
		free_pcp_block(pool, pfn, real_order);
		report_excess(pool, zone);
		pool->client->pgfree += 1U << real_order;
		error = 0;
	}
	zone_unlock(pool, zone);
	return error;
}

/* free_unref_page(): a page of order 0 goes to our order-0 list. */
static __always_inline int free_order_0(struct pool *pool, u32 pfn, u32 gate, u32 handle)
{
	unsigned int zone = page_zone(pool, pfn);
	unsigned int mt = get_pageblock_migratetype(pool, pfn);
	struct pcp *pcp;
	int error;

	if (unlikely(mt == MIGRATE_ISOLATE))
		return free_high_order(pool, pfn, 0, gate, handle);
	pcp = &pool->client->pcp[zone][mt < MIGRATE_PCPTYPES ? mt : MIGRATE_MOVABLE];
	if (unlikely(pcp->count >= pool->pcp_high[zone])) {
		error = free_pcppages_bulk(pool, pool->slot, pcp, zone, pool->pcp_batch[zone]);
		if (error)
			return error;
	}
	error = put_page_testzero(pool, pfn, 0);
	if (unlikely(error != 1))
		return error;
	reset_page_owner(pool, gate, pfn, 0, handle);
	pcp->pfn[pcp->count++] = pfn;
	pool->client->pgfree++;
	return 0;
}

/* free_pages() for the uncommon cases: see begin_op_fast(). */
static __attribute__((noinline)) int free_pages_gated(struct pool *pool, u32 pfn, int order,
						      int real_order, u32 handle)
{
	int gate = begin_op(pool);

	if (gate < 0)
		return gate;
	if (needs_handle((u32)gate, handle))
		real_order = -EAGAIN;
	else if (real_order == 0)
		real_order = free_order_0(pool, pfn, (u32)gate, handle);
	else
		real_order = free_high_order(pool, pfn, order, (u32)gate, handle);
	end_op(pool);
	return real_order;
}

int free_pages(struct pool *pool, u32 pfn, int order, u32 handle)
{
	int real_order = allocated_order(pool, pfn);

	if (unlikely(real_order < 0))
		return real_order;
	if (unlikely(order >= 0 && real_order != order))
		return -BAD_ORDER;
	if (unlikely(!begin_op_fast(pool)))
		return free_pages_gated(pool, pfn, order, real_order, handle);
	if (likely(real_order == 0))
		real_order = free_order_0(pool, pfn, 0, 0);
	else
		real_order = free_high_order(pool, pfn, order, 0, 0);
	end_op(pool);
	return real_order;
}

/* May the block be split? 0 or -BAD_*. Zone lock held. */
static int check_split(const struct pool *pool, u32 pfn, int order)
{
	u64 word = page_word(pool, pfn);

	if (word != PAGE_WORD(PAGE_ALLOCATED, order, 0, 1))
		return word_state(word) == PAGE_ALLOCATED ? -BAD_COUNT : -BAD_FREE;
	return pfn_to_page(pool, pfn)->flags & 1ULL << PG_head ? -BAD_COMPOUND : 0;
}

/* Zone lock held. */
static void __split_page(struct pool *pool, u32 pfn, int order, unsigned int new_order, u32 gate)
{
	split_page_owner(pool, gate, pfn, (unsigned int)order, new_order);
	/* The head last: until then its word covers the whole block. */
	for (u32 nr = (1U << order) - (1U << new_order); nr; nr -= 1U << new_order) {
		pfn_to_page(pool, pfn + nr)->gfp_mask = pfn_to_page(pool, pfn)->gfp_mask;
		set_page_word(pool, pfn + nr, PAGE_WORD(PAGE_ALLOCATED, new_order, 0, 1));
	}
	set_page_word(pool, pfn, PAGE_WORD(PAGE_ALLOCATED, new_order, 0, 1));
	pool->client->pgsplit += 1U << order;
}

int split_page(struct pool *pool, u32 pfn, unsigned int new_order)
{
	int order = allocated_order(pool, pfn);
	unsigned int zone;
	int error, gate;

	if (order < 0)
		return order;
	if (new_order >= (unsigned int)order)
		return new_order == (unsigned int)order ? 0 : -BAD_ORDER;
	gate = begin_op(pool);
	if (gate < 0)
		return gate;
	zone = page_zone(pool, pfn);
	error = zone_lock(pool, zone, OPERATION_NSEC);
	if (!error) {
		error = check_split(pool, pfn, order);
		if (!error)
			__split_page(pool, pfn, order, new_order, (u32)gate);
		zone_unlock(pool, zone);
	}
	end_op(pool);
	return error;
}
