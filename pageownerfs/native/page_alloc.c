// SPDX-License-Identifier: MIT
/*
 * page_alloc.c - the buddy allocator.
 *
 * Mirrors mm/page_alloc.c (6.12): zones, free lists per order and migratetype, fallback, order-0 lists
 * per client, watermarks. What differs, differs because the clients are processes: locks are robust,
 * page->word is the truth (pool.h), and free memory is given back to the system.
 */
#include "free_area.h"

#define ALLOC_WMARK_MASK 0x3u /* index into zone.watermark */
#define ALLOC_NO_WATERMARKS 0x4u
#define ALLOC_MIN_RESERVE 0x8u /* __GFP_HIGH: half of the min watermark may be used */
#define ALLOC_NON_BLOCK 0x10u  /* can't wait: another quarter */
#define ALLOC_HIGHATOMIC 0x20u
#define ALLOC_CMA 0x40u

struct alloc_context {
	unsigned int order, mt, highest_zone, alloc_flags;
	u32 gfp_mask, handle;
	u32 gate;  /* as begin_op() last saw it */
	int error; /* of fallocate (-ENOSPC, -ENOMEM), of a lock (-EBUSY), -EAGAIN; 0: nothing free */
};

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

/*
 * __free_one_page(): put a block on the free lists, merged with its free buddies. The block is not
 * free yet by its word. Zone lock held.
 */
void free_one_page(struct pool *pool, unsigned int zone, u32 pfn, unsigned int order, u32 hole_bits)
{
	unsigned int mt = get_pageblock_migratetype(pool, pfn);
	u32 freed = pfn;

	while (order < MAX_PAGE_ORDER) {
		u32 buddy = pfn ^ (1U << order);
		u32 buddy_bits;

		if (!page_is_buddy(pool, zone, buddy, order))
			break;
		if (order >= PAGEBLOCK_ORDER) {
			/* Pageblocks of special types keep their borders. */
			unsigned int buddy_mt = get_pageblock_migratetype(pool, buddy);

			if (mt != buddy_mt && (mt >= MIGRATE_PCPTYPES || buddy_mt >= MIGRATE_PCPTYPES))
				break;
			buddy_bits = (u32)page_word(pool, buddy);
		} else {
			buddy_bits = BUDDY_POPULATED;
		}
		del_from_free_list(pool, zone, buddy, order);
		set_page_word(pool, buddy, PAGE_WORD(PAGE_FREE, 0, 0, 0));
		hole_bits |= buddy_bits;
		pfn &= buddy;
		order++;
	}
	if (pfn != freed)
		set_page_word(pool, freed, PAGE_WORD(PAGE_FREE, 0, 0, 0));
	if (order < PAGEBLOCK_ORDER)
		hole_bits = 0;
	add_to_free_list(pool, zone, pfn, order, mt, hole_bits);
}

static void clear_tails(struct pool *pool, u32 pfn, unsigned int order)
{
	for (u32 nr = 1; nr < 1U << order; nr++)
		set_page_word(pool, pfn + nr, PAGE_WORD(PAGE_FREE, 0, 0, 0));
}

/* Free a block that some client has in its hands. Zone lock held. */
void free_pcp_block(struct pool *pool, u32 pfn, unsigned int order)
{
	unsigned int zone = page_zone(pool, pfn);

	if (order > MAX_PAGE_ORDER || pfn & ((1U << order) - 1) ||
	    pfn + (1U << order) > pool->zone_span[zone].end_pfn)
		order = 0; /* only corruption makes such a word */
#if CONFIG_PAGE_OWNER
	clear_page_owner(pool, pfn, order);
#endif
	pfn_to_page(pool, pfn)->flags &= ~(1ULL << PG_head);
	clear_tails(pool, pfn, order);
	free_one_page(pool, zone, pfn, order, BUDDY_POPULATED);
}

/* Memory for the part of a free block that is about to be used. */
static int populate(struct pool *pool, u32 pfn, unsigned int order)
{
	if (order < PAGEBLOCK_ORDER)
		order = PAGEBLOCK_ORDER;
	return pool_commit(pool, (u64)pfn << PAGE_SHIFT, PAGE_SIZE << order);
}

/* expand(): cut a free block down to order; the upper halves go back to the lists. */
static void expand(struct pool *pool, unsigned int zone, u32 pfn, unsigned int high, unsigned int order,
		   unsigned int mt, u32 hole_bits)
{
	while (high > order) {
		high--;
		add_to_free_list(pool, zone, pfn + (1U << high), high, mt,
				 high >= PAGEBLOCK_ORDER ? hole_bits : 0);
	}
}

/*
 * __rmqueue_smallest(): the smallest free block of the type that is large enough, cut to order, and
 * now in our hands (PAGE_PCP). 0: none, or no memory for it (ac->error).
 */
static u32 rmqueue_smallest(struct pool *pool, unsigned int zone, struct alloc_context *ac,
			    unsigned int mt)
{
	struct zone *z = pool_zone(pool, zone);

	for (unsigned int high = ac->order; high <= MAX_PAGE_ORDER; high++) {
		u32 pfn = z->free_area[high].free_list[mt];
		u32 hole_bits;

		if (!pfn)
			continue;
		if (unlikely(pfn >= pool->nr_pages || !page_is_buddy(pool, zone, pfn, high))) {
			rebuild_zone(pool, zone); /* somebody wrote over the lists */
			return 0;
		}
		hole_bits = (u32)page_word(pool, pfn);
		if (hole_bits & BUDDY_HOLE) {
			int error = populate(pool, pfn, ac->order);

			if (error) {
				stat_inc(pool, commit_failed);
				ac->error = error;
				continue;
			}
		}
		del_from_free_list(pool, zone, pfn, high);
		expand(pool, zone, pfn, high, ac->order, mt, hole_bits);
		set_page_word(pool, pfn, PAGE_WORD(PAGE_PCP, ac->order, pool->slot, 0));
		return pfn;
	}
	return 0;
}

/* __rmqueue() */
static u32 rmqueue_one(struct pool *pool, unsigned int zone, struct alloc_context *ac)
{
	struct zone *z = pool_zone(pool, zone);
	u32 pfn = 0;

	/* Movable pages use CMA blocks once more than half of what is free is there. */
	if (ac->alloc_flags & ALLOC_CMA && z->nr_free_cma > z->nr_free / 2)
		pfn = rmqueue_smallest(pool, zone, ac, MIGRATE_CMA);
	if (!pfn)
		pfn = rmqueue_smallest(pool, zone, ac, ac->mt);
	if (!pfn && ac->alloc_flags & ALLOC_CMA)
		pfn = rmqueue_smallest(pool, zone, ac, MIGRATE_CMA);
	if (!pfn && rmqueue_fallback(pool, zone, ac->order, ac->mt))
		pfn = rmqueue_smallest(pool, zone, ac, ac->mt);
	return pfn;
}

/* The block of order > 0, or the one page that bypasses the order-0 list. Zone lock held. */
static u32 rmqueue_buddy(struct pool *pool, unsigned int zone, struct alloc_context *ac)
{
	u32 pfn = 0;

	if (ac->alloc_flags & ALLOC_HIGHATOMIC)
		pfn = rmqueue_smallest(pool, zone, ac, MIGRATE_HIGHATOMIC);
	if (!pfn)
		pfn = rmqueue_one(pool, zone, ac);
	if (!pfn && ac->alloc_flags & ALLOC_NON_BLOCK)
		pfn = rmqueue_smallest(pool, zone, ac, MIGRATE_HIGHATOMIC);
	if (pfn && ac->alloc_flags & ALLOC_HIGHATOMIC)
		reserve_highatomic_pageblock(pool, zone, pfn);
	return pfn;
}

/* rmqueue_bulk(): fill the order-0 list, so that popping yields ascending addresses. Zone lock held. */
static void rmqueue_bulk(struct pool *pool, unsigned int zone, struct alloc_context *ac, struct pcp *pcp)
{
	u32 batch = pool_zone(pool, zone)->pcp_batch;
	u32 pfns[PCP_HIGH_MAX];
	u32 nr = 0;

	if (batch > PCP_HIGH_MAX / 2)
		batch = PCP_HIGH_MAX / 2;
	while (nr < batch) {
		u32 pfn = rmqueue_one(pool, zone, ac);

		if (!pfn)
			break;
		pfns[nr++] = pfn;
	}
	for (u32 i = 0; i < nr; i++)
		pcp->pfn[i] = pfns[nr - 1 - i];
	pcp->count = nr;
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

/* gfp_zone(): the highest zone that the mask allows, or -EINVAL for masks that contradict themselves. */
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
 * Enter the allocator: returns the gate, or a negative error. Between begin_op() and end_op() the pool
 * can't be frozen. The store and the load need no fence here: see fence_all_clients().
 */
static int begin_op(struct pool *pool)
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
 * begin_op() where nothing is special: attached, not frozen, no tracking. If false, we are not in. The
 * one branch on the gate is all that tracking costs while it is off.
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

static inline void end_op(struct pool *pool)
{
	atomic_store_explicit(&pool->client->in_op, 0, memory_order_release);
}

/* Tracking is on, and the caller has not brought its stack. */
static inline bool needs_handle(u32 gate, u32 handle)
{
	return CONFIG_PAGE_OWNER && gate & GATE_PAGE_OWNER && !handle;
}

/*
 * What stands in for direct reclaim: free what the living hold back and the dead left, the HighAtomic
 * reserve last. Negative (ac->error): give up. Otherwise: is it worth another try?
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
 * prep_new_page(): a block in our hands becomes the caller's. The owner is written first and the word
 * last, so that no page is ever allocated without an owner.
 */
static __always_inline void prep_new_page(struct pool *pool, u32 pfn, unsigned int order, u32 gfp_mask, u32 gate,
				 u32 handle)
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

/* In the allocator, with all arguments checked. gate and handle are constants where tracking is off. */
static __always_inline int __alloc_pages(struct pool *pool, struct alloc_context *ac, int zone, u32 *pfn)
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
static __attribute__((noinline)) int alloc_pages_gated(struct pool *pool, struct alloc_context ac, int zone,
						       u32 *pfn)
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
 * -EINVAL: the mask or the order; -EAGAIN: tracking is on, call again with a handle; -ENOMEM: nothing
 * free; -ENOSPC: nothing left in /dev/shm; -EBUSY: a client is stopped inside the allocator; -EUSERS.
 */
int alloc_pages(struct pool *pool, unsigned int order, u32 gfp_mask, u32 handle, u32 *pfn)
{
	struct alloc_context ac = {.order = order, .mt = gfp_migratetype(gfp_mask), .gfp_mask = gfp_mask};
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
 * free_pcppages_bulk(): give the nr oldest pages of a client's order-0 list back. The list may name pages
 * that it no longer has, if another process died while it did this for us: the word tells.
 */
static int free_pcppages_bulk(struct pool *pool, unsigned int slot, struct pcp *pcp, unsigned int zone, u32 nr)
{
	int error;

	if (pcp->count > PCP_HIGH_MAX)
		pcp->count = 0; /* scribbled over: the pages are found again when the client is gone */
	if (nr > pcp->count)
		nr = pcp->count;
	if (nr == 0)
		return 0;
	error = zone_lock(pool, zone);
	if (error)
		return error;
	for (u32 i = 0; i < nr; i++) {
		u32 pfn = pcp->pfn[i];

		if (pfn < pool->nr_pages && page_word(pool, pfn) == PAGE_WORD(PAGE_PCP, 0, slot, 0) &&
		    page_zone(pool, pfn) == zone)
			free_one_page(pool, zone, pfn, 0, 0);
	}
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

/* What a word says about a PFN that should be an allocated head: 0 or -BAD_*. */
static int check_allocated(struct pool *pool, u64 word)
{
	(void)pool;
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

int allocated_order(struct pool *pool, u32 pfn)
{
	int error;
	u64 word;

	if (pfn >= pool->nr_pages)
		return -BAD_PFN;
	word = page_word(pool, pfn);
	error = check_allocated(pool, word);
	return error ? error : (int)word_order(word);
}

/* Drop a reference. 0: others remain; 1: the block is in our hands now (PAGE_PCP); negative: refused. */
static inline int put_page_testzero(struct pool *pool, u32 pfn, int order)
{
	_Atomic u64 *wordp = &pfn_to_page(pool, pfn)->word;
	u64 word = atomic_load_explicit(wordp, memory_order_acquire);

	for (;;) {
		int error = check_allocated(pool, word);
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
		pfn_to_page(pool, pfn)->flags &= ~(1ULL << PG_head);
		clear_tails(pool, pfn, real_order);
		free_one_page(pool, zone, pfn, real_order, BUDDY_POPULATED);
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
static __attribute__((noinline)) int free_pages_gated(struct pool *pool, u32 pfn, int order, int real_order,
						      u32 handle)
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
 * __free_pages(), put_page(): drop a reference, and free the block with the last one. order: what the
 * caller believes it is, -1 = any. -BAD_*: refused, nothing changed; -EAGAIN: as alloc_pages().
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

/* get_page(): one more reference to an allocated block. */
int get_page(struct pool *pool, u32 pfn)
{
	_Atomic u64 *wordp;
	u64 word;

	if (pfn >= pool->nr_pages)
		return -BAD_PFN;
	wordp = &pfn_to_page(pool, pfn)->word;
	word = atomic_load(wordp);
	do {
		int error = check_allocated(pool, word);

		if (error)
			return error;
		if (word_count(word) >= 0x7fffffff)
			return -BAD_COUNT;
	} while (!atomic_compare_exchange_weak(wordp, &word, word + 1));
	return 0;
}

/* split_page(): an allocated block becomes blocks of new_order, each with a reference of its own. */
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
	error = zone_lock(pool, zone);
	if (!error) {
		u64 word = page_word(pool, pfn);

		if (word != PAGE_WORD(PAGE_ALLOCATED, order, 0, 1))
			error = word_state(word) == PAGE_ALLOCATED ? -BAD_COUNT : -BAD_FREE;
		else if (pfn_to_page(pool, pfn)->flags & 1ULL << PG_head)
			error = -BAD_COMPOUND;
	}
	if (!error) {
#if CONFIG_PAGE_OWNER
		if (gate & GATE_PAGE_OWNER)
			__split_page_owner(pool, pfn, (unsigned int)order, new_order);
#endif
		/* The head last: until then its word covers the block. */
		for (u32 nr = (1U << order) - (1U << new_order); nr; nr -= 1U << new_order) {
			pfn_to_page(pool, pfn + nr)->gfp_mask = pfn_to_page(pool, pfn)->gfp_mask;
			set_page_word(pool, pfn + nr, PAGE_WORD(PAGE_ALLOCATED, new_order, 0, 1));
		}
		set_page_word(pool, pfn, PAGE_WORD(PAGE_ALLOCATED, new_order, 0, 1));
		pool->client->pgsplit += 1U << order;
	}
	if (error != -EBUSY)
		zone_unlock(pool, zone);
	end_op(pool);
	return error;
}

/* Give one free block back to the system: the hole is noted first, so that dying between is harmless. */
static u64 report_block(struct pool *pool, unsigned int zone, u32 pfn, unsigned int order)
{
	set_page_word(pool, pfn, PAGE_WORD(PAGE_BUDDY, order, 0, BUDDY_HOLE));
	pool_zone(pool, zone)->nr_populated--;
	return pool_decommit(pool, (u64)pfn << PAGE_SHIFT, PAGE_SIZE << order) ? 0 : 1ULL << order;
}

/* A free block that may have memory; 0: none. The newest are first on their lists. */
static u32 find_populated(struct pool *pool, unsigned int zone, unsigned int *order)
{
	struct zone *z = pool_zone(pool, zone);

	for (*order = PAGEBLOCK_ORDER; *order <= MAX_PAGE_ORDER; ++*order)
		for (unsigned int mt = 0; mt < MIGRATE_TYPES; mt++) {
			u32 pfn = z->free_area[*order].free_list[mt];

			for (u32 nr = 0; pfn && pfn < pool->nr_pages && nr < pool->nr_pageblocks; nr++) {
				if (!page_is_buddy(pool, zone, pfn, *order))
					break;
				if (page_word(pool, pfn) & BUDDY_POPULATED)
					return pfn;
				pfn = pfn_to_page(pool, pfn)->next;
			}
		}
	z->nr_populated = 0;
	return 0;
}

/*
 * Mirrors mm/page_reporting.c: free blocks of pageblock order and more have no memory. One block per
 * hold of the lock. Returns the pages given back.
 */
u64 page_reporting(struct pool *pool)
{
	u64 nr_pages = 0;

	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
		/* Each pass makes one block less; a pass too many does no harm. */
		for (u32 pass = 0; pool_zone(pool, zone)->nr_populated && pass < pool->nr_pageblocks; pass++) {
			unsigned int order;
			u32 pfn;

			if (zone_lock(pool, zone))
				break;
			pfn = find_populated(pool, zone, &order);
			if (pfn)
				nr_pages += report_block(pool, zone, pfn, order);
			zone_unlock(pool, zone);
		}
	stat_add(pool, reported_pages, nr_pages);
	return nr_pages;
}
