// SPDX-License-Identifier: MIT
/*
 * page_alloc.c - the buddy allocator.
 *
 * Mirrors mm/page_alloc.c (6.12): zones, free lists per order and migratetype, fallback, order-0
 * lists per client, watermarks. What differs, differs because the clients are processes: locks are
 * robust, page->word is the truth (pool.h), and free memory is given back to the system.
 */
#include "pool/free_area.h"
#include "pool/internal.h"

/* 0 or EBUSY: somebody alive has held the lock for seconds. A dead holder's mess is mended here. */
int zone_lock(struct pool *pool, unsigned int zone)
{
	int error = pool_mutex_lock(&pool_zone(pool, zone)->lock);

	if (unlikely(error == EOWNERDEAD)) {
		rebuild_zone(pool, zone);
		return 0;
	}
	return -error;
}

void zone_unlock(struct pool *pool, unsigned int zone)
{
	pthread_mutex_unlock(&pool_zone(pool, zone)->lock);
}

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

/* The newest page of an order-0 list. 0: empty, or scribbled over. */
static inline u32 pcp_pop(struct pool *pool, struct pcp *pcp)
{
	u32 pfn;

	if (unlikely(pcp->count - 1 >= PCP_HIGH_MAX))
		return 0;
	pfn = pcp->pfn[--pcp->count];
	if (unlikely(pfn >= pool->nr_pages ||
		     page_word(pool, pfn) != PAGE_WORD(PAGE_PCP, 0, pool->slot, 0)))
		return 0;
	return pfn;
}

/* rmqueue(): 0 when the zone has nothing for us. */
static u32 rmqueue(struct pool *pool, unsigned int zone, struct alloc_context *ac)
{
	struct pcp *pcp = &pool->client->pcp[zone][ac->mt];
	u32 pfn = ac->order == 0 ? pcp_pop(pool, pcp) : 0;
	int error;

	if (pfn)
		return pfn;
	error = zone_lock(pool, zone);
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
		if (pfn)
			return pfn;
	}
	return 0;
}

/*
 * gfp_zone(): the highest zone that the mask allows, or -EINVAL for masks that contradict
 * themselves.
 */
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

/*
 * Enter the allocator: returns the gate, or a negative error. Between begin_op() and end_op() the
 * pool can't be frozen. The store and the load need no fence here: see fence_all_clients().
 */
int begin_op(struct pool *pool)
{
	for (;;) {
		u32 gate;
		int error;

		if (unlikely(!pool->client)) {
			error = pool_register(pool);
			if (error)
				return error;
		}
		atomic_store_explicit(&pool->client->in_op, 1, memory_order_relaxed);
		barrier();
		gate = atomic_load_explicit(&pool->header->gate, memory_order_acquire);
		if (likely(!(gate & GATE_FROZEN)))
			return (int)gate;
		atomic_store_explicit(&pool->client->in_op, 0, memory_order_release);
		error = pool_wait_thaw(pool);
		if (error)
			return error;
	}
}

/*
 * begin_op() where nothing is special: attached, not frozen, no tracking. If false, we are not in.
 * The one branch on the gate is all that tracking costs while it is off.
 */
static inline bool begin_op_fast(struct pool *pool)
{
	struct pool_client *client = pool->client;

	if (unlikely(!client))
		return false;
	atomic_store_explicit(&client->in_op, 1, memory_order_relaxed);
	barrier();
	if (likely(!atomic_load_explicit(&pool->header->gate, memory_order_acquire)))
		return true;
	atomic_store_explicit(&client->in_op, 0, memory_order_release);
	return false;
}

/* Tracking is on, and the caller has not brought its stack. */
static inline bool needs_handle(u32 gate, u32 handle)
{
	return CONFIG_PAGE_OWNER && gate & GATE_PAGE_OWNER && !handle;
}

/*
 * What stands in for direct reclaim: free what the living hold back and the dead left, the
 * HighAtomic reserve last. Negative (ac->error): give up. Otherwise: is it worth another try?
 */
static int reclaim(struct pool *pool, struct alloc_context *ac)
{
	int error, progress = 0;

	end_op(pool); /* or two that do this would wait for each other */
	error = drain_all_pages(pool);
	if (error == 0)
		error = begin_op(pool);
	if (error < 0)
		return ac->error = error;
	ac->gate = (u32)error; /* tracking may have been switched on while we were out */
	if (needs_handle(ac->gate, ac->handle))
		return ac->error = -EAGAIN;
	for (unsigned int zone = 0; zone <= ac->highest_zone; zone++)
		if (zone_lock(pool, zone) == 0) {
			progress |= unreserve_highatomic_pageblock(pool, zone, ac->mt);
			zone_unlock(pool, zone);
		}
	return progress;
}

static u32 alloc_pages_slowpath(struct pool *pool, struct alloc_context *ac)
{
	u32 pfn;

	ac->alloc_flags = WMARK_LOW | (ac->mt == MIGRATE_MOVABLE ? ALLOC_CMA : 0);
	pfn = get_page_from_freelist(pool, ac);
	if (pfn)
		return pfn;
	ac->alloc_flags = slowpath_flags(ac->gfp_mask, ac->order);
	pfn = get_page_from_freelist(pool, ac);
	if (pfn || !(ac->gfp_mask & __GFP_DIRECT_RECLAIM))
		return pfn;
	if (ac->error == -ENOSPC)
		page_reporting(pool); /* /dev/shm is full: our own free memory may be in the way */
	for (;;) {
		int again = reclaim(pool, ac);

		if (again < 0)
			return 0;
		ac->error = 0;
		pfn = get_page_from_freelist(pool, ac);
		if (pfn || !again)
			return pfn;
	}
}

/*
 * prep_new_page(): a block in our hands becomes the caller's. The owner is written first and the
 * word last, so that no page is ever allocated without an owner.
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
#if CONFIG_PAGE_OWNER
	if (unlikely(gate & GATE_PAGE_OWNER))
		__set_page_owner(pool, pfn, order, gfp_mask, handle);
#else
	(void)gate;
	(void)handle;
#endif
	set_page_word(pool, pfn, PAGE_WORD(PAGE_ALLOCATED, order, 0, 1));
	pool->client->pgalloc += 1U << order;
}

/* Find the block, with all arguments checked. An error ends the operation. */
static __always_inline int __alloc_pages(struct pool *pool, struct alloc_context *ac, int zone,
					 u32 *pfn)
{
	struct pcp *pcp;

	ac->highest_zone = pool->first_zone[zone];
	pcp = &pool->client->pcp[ac->highest_zone][ac->mt];
	*pfn = likely(ac->order == 0) ? pcp_pop(pool, pcp) : 0;
	if (unlikely(*pfn == 0))
		*pfn = alloc_pages_slowpath(pool, ac);
	if (unlikely(*pfn == 0)) {
		end_op(pool);
		if (ac->error != -EAGAIN)
			stat_inc(pool, oom);
		return ac->error ? ac->error : -ENOMEM;
	}
	return 0;
}

/* alloc_pages() when something is special: see begin_op_fast(). */
static __attribute__((noinline)) int alloc_pages_gated(struct pool *pool, struct alloc_context ac,
						       int zone, u32 *pfn)
{
	int error = begin_op(pool);

	if (error < 0)
		return error;
	ac.gate = (u32)error;
	if (needs_handle(ac.gate, ac.handle)) {
		end_op(pool);
		return -EAGAIN;
	}
	error = __alloc_pages(pool, &ac, zone, pfn);
	if (error)
		return error;
	prep_new_page(pool, *pfn, ac.order, ac.gfp_mask, ac.gate, ac.handle);
	end_op(pool);
	return 0;
}

/*
 * alloc_pages(): 2^order pages. handle is the caller's stack, if tracking is on.
 *
 * -EINVAL: the mask or the order; -EAGAIN: tracking is on, call again with a handle; -ENOMEM:
 * nothing free; -ENOSPC: nothing left in /dev/shm; -EBUSY: a client is stopped inside the
 * allocator; -EUSERS.
 */
int alloc_pages(struct pool *pool, unsigned int order, u32 gfp_mask, u32 handle, u32 *pfn)
{
	struct alloc_context ac = {
		.order = order, .mt = gfp_migratetype(gfp_mask), .gfp_mask = gfp_mask};
	int error, zone = gfp_zone(gfp_mask);

	if (unlikely(zone < 0 || order > MAX_PAGE_ORDER || ac.mt >= MIGRATE_PCPTYPES ||
		     gfp_mask & __GFP_NOFAIL))
		return -EINVAL;
	if (unlikely(!begin_op_fast(pool))) {
		ac.handle = handle;
		return alloc_pages_gated(pool, ac, zone, pfn);
	}
	error = __alloc_pages(pool, &ac, zone, pfn);
	if (unlikely(error))
		return error;
	prep_new_page(pool, *pfn, order, gfp_mask, 0, 0);
	end_op(pool);
	return 0;
}

/*
 * free_pcppages_bulk(): give the nr oldest pages of a client's order-0 list back. The list may name
 * pages that it no longer has, if another process died while it did this for us: the word tells.
 */
static int free_pcppages_bulk(struct pool *pool, unsigned int slot, struct pcp *pcp,
			      unsigned int zone, u32 nr)
{
	int error;

	if (pcp->count > PCP_HIGH_MAX)
		/* scribbled over: the pages are found again when the client is gone */
		pcp->count = 0;
	if (nr > pcp->count)
		nr = pcp->count;
	if (nr == 0)
		return 0;
	error = zone_lock(pool, zone);
	if (error)
		return error;
	for (u32 i = 0; i < nr; i++) {
		u32 pfn = pcp->pfn[i];

		if (pfn < pool->nr_pages &&
		    page_word(pool, pfn) == PAGE_WORD(PAGE_PCP, 0, slot, 0) &&
		    page_zone(pool, pfn) == zone)
			free_one_page(pool, zone, pfn, 0, 0);
	}
	report_excess(pool, zone);
	zone_unlock(pool, zone);
	pcp->count -= nr;
	memmove(pcp->pfn, pcp->pfn + nr, pcp->count * sizeof(pcp->pfn[0]));
	return 0;
}

/* drain_pages(): a client's order-0 lists; the client is we, or it stands still. */
void drain_pages(struct pool *pool, unsigned int slot)
{
	struct pool_client *client = &pool->clients[slot];

	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
		for (unsigned int mt = 0; mt < MIGRATE_PCPTYPES; mt++)
			free_pcppages_bulk(pool, slot, &client->pcp[zone][mt], zone, PCP_HIGH_MAX);
}

void drain_local_pages(struct pool *pool)
{
	if (pool->client && begin_op(pool) >= 0) {
		drain_pages(pool, pool->slot);
		end_op(pool);
	}
}

/*
 * Drop a reference. 0: others remain; 1: the block is in our hands now (PAGE_PCP); negative:
 * refused.
 */
static inline int put_page_testzero(struct pool *pool, u32 pfn, int order)
{
	_Atomic u64 *wordp = &pfn_to_page(pool, pfn)->word;
	u64 word = atomic_load_explicit(wordp, memory_order_acquire);

	for (;;) {
		int error = check_allocated(word);
		u64 new;

		if (unlikely(error))
			return error;
		if (unlikely(order >= 0 && word_order(word) != (unsigned int)order))
			return -BAD_ORDER;
		if (likely(word_count(word) <= 1))
			new = PAGE_WORD(PAGE_PCP, word_order(word), pool->slot, 0);
		else
			new = word - 1;
		if (likely(atomic_compare_exchange_weak(wordp, &word, new)))
			return word_count(word) <= 1;
	}
}

static int free_high_order(struct pool *pool, u32 pfn, int order, u32 gate, u32 handle)
{
	unsigned int zone = page_zone(pool, pfn);
	unsigned int real_order = word_order(page_word(pool, pfn));
	int error = zone_lock(pool, zone);

	if (error)
		return error;
	error = put_page_testzero(pool, pfn, order);
	if (error == 1) {
		real_order = word_order(page_word(pool, pfn));
#if CONFIG_PAGE_OWNER
		if (unlikely(gate & GATE_PAGE_OWNER))
			__reset_page_owner(pool, pfn, real_order, handle);
#else
		(void)gate;
		(void)handle;
#endif
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
#if CONFIG_PAGE_OWNER
	if (unlikely(gate & GATE_PAGE_OWNER))
		__reset_page_owner(pool, pfn, 0, handle);
#else
	(void)gate;
	(void)handle;
#endif
	pcp->pfn[pcp->count++] = pfn;
	pool->client->pgfree++;
	return 0;
}

/* free_pages() when something is special: see begin_op_fast(). */
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

/*
 * __free_pages(), put_page(): drop a reference, and free the block with the last one. order: what
 * the caller believes it is, -1 = any. -BAD_*: refused, nothing changed; -EAGAIN: as alloc_pages().
 */
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
