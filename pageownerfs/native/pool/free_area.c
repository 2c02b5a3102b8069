// SPDX-License-Identifier: MIT
/*
 * free_area.c - adding a whole range to the free lists.
 */
#include "pool/free_area.h"

static unsigned int block_limit(const struct pool *pool, u32 pfn)
{
	unsigned int mt = get_pageblock_migratetype(pool, pfn);
	unsigned int buddy_mt = get_pageblock_migratetype(pool, pfn + PAGEBLOCK_NR_PAGES);

	if (mt != buddy_mt && (mt >= MIGRATE_PCPTYPES || buddy_mt >= MIGRATE_PCPTYPES))
		return PAGEBLOCK_ORDER;
	return MAX_PAGE_ORDER;
}

void add_free_range(struct pool *pool, unsigned int zone, u32 start_pfn, u32 end_pfn, u32 hole_bits)
{
	while (end_pfn > start_pfn) {
		unsigned int order = MAX_PAGE_ORDER;
		u32 pfn;

		while (end_pfn & ((1U << order) - 1) || end_pfn - start_pfn < 1U << order)
			order--;
		pfn = end_pfn - (1U << order);
		if (order > PAGEBLOCK_ORDER && block_limit(pool, pfn) < order) {
			order = PAGEBLOCK_ORDER;
			pfn = end_pfn - (1U << order);
		}
		add_to_free_list(pool, zone, pfn, order, get_pageblock_migratetype(pool, pfn),
				 order >= PAGEBLOCK_ORDER ? hole_bits : 0);
		end_pfn = pfn;
	}
}
