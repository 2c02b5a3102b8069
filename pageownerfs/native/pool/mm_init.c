// SPDX-License-Identifier: MIT
/*
 * mm_init.c - the struct pages, zones, watermarks and first free lists of a new pool.
 *
 * Mirrors mm/mm_init.c and the parts of mm/page_alloc.c that set watermarks and reserves.
 */
#include <string.h>

#include "pool/free_area.h"
#include "pool/map.h"
#include "pool/mm_init.h"

/*
 * sysctl_lowmem_reserve_ratio: how much a zone keeps from allocations that could use a higher one.
 */
static const u32 lowmem_reserve_ratio[MAX_NR_ZONES] = {[ZONE_DMA] = 256, [ZONE_NORMAL] = 32};

static void reserve_range(struct pool *pool, u32 start_pfn, u32 end_pfn)
{
	for (u32 pfn = start_pfn; pfn < end_pfn; pfn++) {
		pfn_to_page(pool, pfn)->flags |= 1ULL << PG_reserved;
		set_page_word(pool, pfn, PAGE_WORD(PAGE_RESERVED, 0, 0, 0));
	}
}

/*
 * Free [start_pfn, end_pfn) of one zone. Partial pageblocks are backed by memory now and stay
 * backed.
 */
static int init_free_range(struct pool *pool, unsigned int zone, u32 start_pfn, u32 end_pfn)
{
	u32 first_block = (start_pfn + PAGEBLOCK_NR_PAGES - 1) & ~(PAGEBLOCK_NR_PAGES - 1);
	u32 last_block = end_pfn & ~(PAGEBLOCK_NR_PAGES - 1);
	int error = 0;

	if (start_pfn >= end_pfn)
		return 0;
	if (first_block > end_pfn)
		first_block = last_block = end_pfn;
	if (first_block > start_pfn)
		error = pool_commit(pool, (u64)start_pfn << PAGE_SHIFT,
				    (u64)(first_block - start_pfn) << PAGE_SHIFT);
	if (!error && end_pfn > last_block)
		error = pool_commit(pool, (u64)last_block << PAGE_SHIFT,
				    (u64)(end_pfn - last_block) << PAGE_SHIFT);
	pool_zone(pool, zone)->managed_pages += end_pfn - start_pfn;
	add_free_range(pool, zone, start_pfn, end_pfn, BUDDY_HOLE);
	return error;
}

static u64 int_sqrt(u64 x)
{
	u64 root = 0;

	for (u64 bit = 1ULL << 31; bit; bit >>= 1)
		if ((root | bit) * (root | bit) <= x)
			root |= bit;
	return root;
}

/* init_per_zone_wmark_min(), __setup_per_zone_wmarks(), setup_per_zone_lowmem_reserve() */
static void init_watermarks(struct pool *pool)
{
	u64 managed = 0, min_kbytes, pages_min;

	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
		managed += pool_zone(pool, zone)->managed_pages;
	min_kbytes = int_sqrt(managed * (PAGE_SIZE >> 10) * 16);
	if (min_kbytes > 262144)
		min_kbytes = 262144;
	pages_min = min_kbytes >> (PAGE_SHIFT - 10);
	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++) {
		struct zone *z = pool_zone(pool, zone);
		u64 above = 0, step;

		z->watermark[WMARK_MIN] = pages_min * z->managed_pages / managed;
		step = (u64)z->managed_pages / 1000;
		if (step < z->watermark[WMARK_MIN] / 4)
			step = z->watermark[WMARK_MIN] / 4;
		z->watermark[WMARK_LOW] = z->watermark[WMARK_MIN] + step;
		z->watermark[WMARK_HIGH] = z->watermark[WMARK_LOW] + step;
		for (unsigned int high = zone + 1; high < MAX_NR_ZONES; high++) {
			above += pool_zone(pool, high)->managed_pages;
			if (lowmem_reserve_ratio[zone])
				z->lowmem_reserve[high] = above / lowmem_reserve_ratio[zone];
		}
		z->pcp_batch = z->managed_pages >> 10;
		if (z->pcp_batch > PCP_HIGH_MAX / 4)
			z->pcp_batch = PCP_HIGH_MAX / 4;
		if (z->pcp_batch < 1)
			z->pcp_batch = 1;
		z->pcp_high = 4 * z->pcp_batch;
	}
}

static void init_pageblocks(struct pool *pool, const struct pool_config *config)
{
	u32 nr_cma = (u32)(config->cma >> (PAGE_SHIFT + PAGEBLOCK_ORDER));
	/* CMA gets the last whole pageblocks below page_ext. */
	u32 block = pool->page_ext_pfn >> PAGEBLOCK_ORDER;

	memset(pool->pageblock_flags, pool->mobility_disabled ? MIGRATE_UNMOVABLE : MIGRATE_MOVABLE,
	       pool->nr_pageblocks);
	while (nr_cma-- && block-- > DMA_END_PFN >> PAGEBLOCK_ORDER)
		pool->pageblock_flags[block] = MIGRATE_CMA;
}

int free_area_init(struct pool *pool, const struct pool_config *config)
{
	u32 ext_start = pool->page_ext_pfn, ext_end = ext_start + pool->nr_page_ext_pages;
	int error = 0;

	init_pageblocks(pool, config);
	for (u32 pfn = 0; pfn < pool->nr_pages; pfn++)
		pfn_to_page(pool, pfn)->flags = (u64)page_zone(pool, pfn) << ZONES_PGSHIFT;
	reserve_range(pool, 0, 1);
	reserve_range(pool, ext_start, pool->zone_span[ZONE_MOVABLE].start_pfn);
	for (unsigned int zone = 0; zone < MAX_NR_ZONES && !error; zone++) {
		u32 start = pool->zone_span[zone].start_pfn, end = pool->zone_span[zone].end_pfn;

		pool_zone(pool, zone)->present_pages = end - start;
		if (zone == ZONE_MOVABLE) {
			error = init_free_range(pool, zone, start, end);
			continue;
		}
		error = init_free_range(pool, zone, start, end < ext_start ? end : ext_start);
		if (!error)
			error = init_free_range(pool, zone, start > ext_end ? start : ext_end, end);
	}
	init_watermarks(pool);
	return error;
}
