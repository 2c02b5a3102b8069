/* SPDX-License-Identifier: MIT */
/* Adding blocks to the free lists of a zone and removing them. Zone lock held. */
#ifndef PAGEOWNERFS_FREE_AREA_H
#define PAGEOWNERFS_FREE_AREA_H

#include "pool/layout.h"

static inline void account_free(struct zone *z, unsigned int order, unsigned int mt, int sign)
{
	u64 nr = (u64)((long long)sign * (1 << order));

	z->free_area[order].nr_free[mt] += (u32)sign;
	z->nr_free += nr;
	if (mt == MIGRATE_CMA)
		z->nr_free_cma += nr;
}

/* page_reporting() looks at nr_populated first. It may be too high, but never too low. */
static inline void account_populated(struct zone *z, u32 hole_bits, int sign)
{
	if (unlikely(hole_bits & BUDDY_POPULATED))
		z->nr_populated += (u32)sign;
}

/*
 * Put a block at the head of its list. hole_bits: BUDDY_HOLE and BUDDY_POPULATED; 0 below pageblock
 * order.
 */
static inline void add_to_free_list(struct pool *pool, unsigned int zone, u32 pfn,
				    unsigned int order, unsigned int mt, u32 hole_bits)
{
	struct zone *z = pool_zone(pool, zone);
	u32 *head = &z->free_area[order].free_list[mt];
	struct page *page = pfn_to_page(pool, pfn);

	page->prev = 0;
	page->next = *head < pool->nr_pages ? *head : 0;
	page->list_migratetype = mt;
	if (page->next)
		pfn_to_page(pool, page->next)->prev = pfn;
	*head = pfn;
	set_page_word(pool, pfn, PAGE_WORD(PAGE_BUDDY, order, 0, hole_bits));
	account_free(z, order, mt, 1);
	account_populated(z, hole_bits, 1);
}

/* Take a block off its list. Its word stays PAGE_BUDDY until the caller stores another. */
static inline void del_from_free_list(struct pool *pool, unsigned int zone, u32 pfn,
				      unsigned int order)
{
	struct zone *z = pool_zone(pool, zone);
	struct page *page = pfn_to_page(pool, pfn);
	unsigned int mt =
		page->list_migratetype < MIGRATE_TYPES ? page->list_migratetype : MIGRATE_MOVABLE;
	u32 next = page->next < pool->nr_pages ? page->next : 0;

	if (page->prev && page->prev < pool->nr_pages)
		pfn_to_page(pool, page->prev)->next = next;
	else
		z->free_area[order].free_list[mt] = next;
	if (next)
		pfn_to_page(pool, next)->prev = page->prev;
	account_free(z, order, mt, -1);
	account_populated(z, (u32)page_word(pool, pfn), -1);
}

/* Is there a free block of this order at pfn, in this zone? */
static inline bool page_is_buddy(const struct pool *pool, unsigned int zone, u32 pfn,
				 unsigned int order)
{
	u64 word;

	if (pfn < pool->zone_span[zone].start_pfn ||
	    pfn + (1U << order) > pool->zone_span[zone].end_pfn)
		return false;
	word = page_word(pool, pfn);
	return word_state(word) == PAGE_BUDDY && word_order(word) == order;
}

/*
 * Put [start_pfn, end_pfn) on the free lists, in the largest blocks possible. Starts at the end, so
 * that the lowest addresses are allocated first. hole_bits applies to blocks of at least pageblock
 * order.
 */
void add_free_range(struct pool *pool, unsigned int zone, u32 start_pfn, u32 end_pfn,
		    u32 hole_bits);

#endif
