// SPDX-License-Identifier: MIT
/*
 * buddy.c - the buddy allocator of a zone. The zone's lock is held.
 *
 * Mirrors __free_one_page(), __rmqueue() and their helpers in mm/page_alloc.c.
 */
#include "pool/buddy.h"
#include "pool/free_area.h"
#include "pool/map.h"
#include "pool/page_owner.h"
#include "pool/pageblock.h"
#include "pool/zone.h"

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

			if (mt != buddy_mt &&
			    (mt >= MIGRATE_PCPTYPES || buddy_mt >= MIGRATE_PCPTYPES))
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

void free_pcp_block(struct pool *pool, u32 pfn, unsigned int order)
{
	unsigned int zone = page_zone(pool, pfn);

	if (order > MAX_PAGE_ORDER || pfn & ((1U << order) - 1) ||
	    pfn + (1U << order) > pool->zone_span[zone].end_pfn)
		order = 0; /* only corruption produces such a word */
	clear_page_owner(pool, pfn, order);
	pfn_to_page(pool, pfn)->flags &= ~(1ULL << PG_head);
	clear_tails(pool, pfn, order);
	free_one_page(pool, zone, pfn, order, BUDDY_POPULATED);
}

/* Commit memory for the part of a free block that is about to be used. */
static int populate(struct pool *pool, u32 pfn, unsigned int order)
{
	if (order < PAGEBLOCK_ORDER)
		order = PAGEBLOCK_ORDER;
	return pool_commit(pool, (u64)pfn << PAGE_SHIFT, PAGE_SIZE << order);
}

/* expand(): cut a free block down to order; the upper halves go back to the lists. */
static void expand(struct pool *pool, unsigned int zone, u32 pfn, unsigned int high,
		   unsigned int order, unsigned int mt, u32 hole_bits)
{
	while (high > order) {
		high--;
		add_to_free_list(pool, zone, pfn + (1U << high), high, mt,
				 high >= PAGEBLOCK_ORDER ? hole_bits : 0);
	}
}

/*
 * __rmqueue_smallest(): take the smallest free block of the type that is large enough, and cut it
 * to order. The client owns it now (PAGE_PCP). 0: there is none, or no memory for it (ac->error).
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
			rebuild_zone(pool, zone); /* the lists were overwritten */
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

	/* Use CMA blocks for movable pages once they make up more than half of the free pages. */
	if (ac->alloc_flags & ALLOC_CMA && z->nr_free_cma > z->nr_free / 2)
		pfn = rmqueue_smallest(pool, zone, ac, MIGRATE_CMA);
	if (!pfn)
		pfn = rmqueue_smallest(pool, zone, ac, ac->mt);
	if (!pfn && ac->alloc_flags & ALLOC_CMA)
		pfn = rmqueue_smallest(pool, zone, ac, MIGRATE_CMA);
	if (!pfn && rmqueue_fallback(pool, zone, ac->order, MAX_PAGE_ORDER, ac->mt))
		pfn = rmqueue_smallest(pool, zone, ac, ac->mt);
	/* There is no memory for large blocks, but smaller ones already have theirs. */
	if (!pfn && ac->error && ac->order < PAGEBLOCK_ORDER &&
	    rmqueue_fallback(pool, zone, ac->order, PAGEBLOCK_ORDER - 1, ac->mt))
		pfn = rmqueue_smallest(pool, zone, ac, ac->mt);
	return pfn;
}

u32 rmqueue_buddy(struct pool *pool, unsigned int zone, struct alloc_context *ac)
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

void rmqueue_bulk(struct pool *pool, unsigned int zone, struct alloc_context *ac, struct pcp *pcp)
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
