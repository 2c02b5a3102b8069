// SPDX-License-Identifier: MIT
/*
 * page_reporting.c - returning free memory to the system.
 *
 * Mirrors mm/page_reporting.c.
 */
#include "pool/free_area.h"
#include "pool/lock.h"
#include "pool/map.h"
#include "pool/page_reporting.h"
#include "pool/zone.h"

/*
 * How many free blocks of a zone may keep their memory until the daemon comes by, twice a second. A
 * client that allocates and frees the same block repeatedly should not pay for it each time.
 */
#define POPULATED_KEEP 2

/*
 * Return the memory of one free block. The hole is recorded first, so that dying in between is
 * harmless.
 */
static u64 report_block(struct pool *pool, unsigned int zone, u32 pfn, unsigned int order)
{
	set_page_word(pool, pfn, PAGE_WORD(PAGE_BUDDY, order, 0, BUDDY_HOLE));
	pool_zone(pool, zone)->nr_populated--;
	return pool_decommit(pool, (u64)pfn << PAGE_SHIFT, PAGE_SIZE << order) ? 0 : 1ULL << order;
}

/* A free block that may have memory; 0: none. The most recently freed come first on their lists. */
static u32 find_populated(struct pool *pool, unsigned int zone, unsigned int *order)
{
	struct zone *z = pool_zone(pool, zone);

	for (*order = PAGEBLOCK_ORDER; *order <= MAX_PAGE_ORDER; ++*order)
		for (unsigned int mt = 0; mt < MIGRATE_TYPES; mt++) {
			u32 pfn = z->free_area[*order].free_list[mt];

			for (u32 nr = 0; pfn && pfn < pool->nr_pages && nr < pool->nr_pageblocks;
			     nr++) {
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

u64 page_reporting(struct pool *pool)
{
	u64 nr_pages = 0;

	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
		/* Each pass handles one block; extra passes are harmless. */
		for (u32 pass = 0;
		     pool_zone(pool, zone)->nr_populated && pass < pool->nr_pageblocks; pass++) {
			unsigned int order;
			u32 pfn;

			if (zone_lock(pool, zone, PATIENCE_NSEC))
				break;
			pfn = find_populated(pool, zone, &order);
			if (pfn)
				nr_pages += report_block(pool, zone, pfn, order);
			zone_unlock(pool, zone);
		}
	stat_add(pool, reported_pages, nr_pages);
	return nr_pages;
}

void report_excess(struct pool *pool, unsigned int zone)
{
	u64 nr_pages = 0;
	unsigned int order;
	u32 pfn;

	while (pool_zone(pool, zone)->nr_populated > POPULATED_KEEP &&
	       (pfn = find_populated(pool, zone, &order)))
		nr_pages += report_block(pool, zone, pfn, order);
	if (nr_pages)
		stat_add(pool, reported_pages, nr_pages);
}
