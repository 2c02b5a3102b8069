// SPDX-License-Identifier: MIT
/*
 * pageblock.c - pageblocks and their migratetypes: fallback, stealing, the HighAtomic reserve.
 *
 * Mirrors __rmqueue_fallback() and its helpers in mm/page_alloc.c (6.12).
 */
#include "base/gfp.h"
#include "pool/free_area.h"
#include "pool/pageblock.h"

/* Where to look when the lists of a type are empty, best choice first. */
static const u8 fallbacks[MIGRATE_PCPTYPES][MIGRATE_PCPTYPES - 1] = {
	[MIGRATE_UNMOVABLE] = {MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE},
	[MIGRATE_MOVABLE] = {MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE},
	[MIGRATE_RECLAIMABLE] = {MIGRATE_UNMOVABLE, MIGRATE_MOVABLE},
};

static void set_pageblock_migratetype(struct pool *pool, u32 pfn, unsigned int mt)
{
	if (pool->mobility_disabled && mt < MIGRATE_PCPTYPES)
		mt = MIGRATE_UNMOVABLE;
	pool->pageblock_flags[pfn >> PAGEBLOCK_ORDER] = (u8)mt;
}

struct block_count {
	u32 nr_free, nr_movable;
};

/* The part of pfn's pageblock that lies in the zone. */
static u32 block_start(const struct pool *pool, unsigned int zone, u32 pfn)
{
	u32 start = pfn & ~(PAGEBLOCK_NR_PAGES - 1);

	return start > pool->zone_span[zone].start_pfn ? start : pool->zone_span[zone].start_pfn;
}

static u32 block_end(const struct pool *pool, unsigned int zone, u32 pfn)
{
	u32 end = (pfn | (PAGEBLOCK_NR_PAGES - 1)) + 1;

	return end < pool->zone_span[zone].end_pfn ? end : pool->zone_span[zone].end_pfn;
}

/* How many pages to skip for the page or block with this word; at least 1. */
static u32 block_pages(u64 word)
{
	switch (word_state(word)) {
	case PAGE_BUDDY:
	case PAGE_ALLOCATED:
	case PAGE_PCP:
		return word_order(word) <= MAX_PAGE_ORDER ? 1U << word_order(word) : 1;
	default:
		return 1;
	}
}

static struct block_count count_block(const struct pool *pool, unsigned int zone, u32 pfn)
{
	struct block_count count = {0, 0};
	u32 end = block_end(pool, zone, pfn);
	u32 nr;

	for (pfn = block_start(pool, zone, pfn); pfn < end; pfn += nr) {
		u64 word = page_word(pool, pfn);

		nr = block_pages(word);
		if (word_state(word) == PAGE_BUDDY)
			count.nr_free += nr;
		else if (word_state(word) == PAGE_ALLOCATED &&
			 gfp_migratetype(pfn_to_page(pool, pfn)->gfp_mask) == MIGRATE_MOVABLE)
			count.nr_movable += nr;
	}
	return count;
}

static void move_to_list(struct pool *pool, unsigned int zone, u32 pfn, unsigned int order,
			 unsigned int mt)
{
	u32 hole_bits = (u32)page_word(pool, pfn);

	del_from_free_list(pool, zone, pfn, order);
	add_to_free_list(pool, zone, pfn, order, mt, hole_bits);
}

/* move_freepages_block(): move all free blocks of pfn's pageblock to the lists of mt. */
static void move_freepages_block(struct pool *pool, unsigned int zone, u32 pfn, unsigned int mt)
{
	u32 end = block_end(pool, zone, pfn);
	u32 nr;

	for (pfn = block_start(pool, zone, pfn); pfn < end; pfn += nr) {
		u64 word = page_word(pool, pfn);

		nr = block_pages(word);
		if (word_state(word) == PAGE_BUDDY &&
		    page_is_buddy(pool, zone, pfn, word_order(word)))
			move_to_list(pool, zone, pfn, word_order(word), mt);
	}
}

/* May all free pages of the pageblock be taken, or only the one block that was found? */
static bool can_steal_fallback(const struct pool *pool, unsigned int order, unsigned int start_mt)
{
	return order >= PAGEBLOCK_ORDER / 2 || start_mt == MIGRATE_RECLAIMABLE ||
	       start_mt == MIGRATE_UNMOVABLE || pool->mobility_disabled;
}

/*
 * steal_suitable_fallback(): move the free block at pfn to start_mt, and as much around it as is
 * fair.
 */
static void steal_suitable_fallback(struct pool *pool, unsigned int zone, u32 pfn,
				    unsigned int order, unsigned int start_mt, bool whole_block)
{
	unsigned int old_mt = get_pageblock_migratetype(pool, pfn);
	struct block_count count;
	u32 alike = 0;

	if (order >= PAGEBLOCK_ORDER) {
		for (u32 nr = 0; nr < 1U << order; nr += PAGEBLOCK_NR_PAGES)
			set_pageblock_migratetype(pool, pfn + nr, start_mt);
		move_to_list(pool, zone, pfn, order, start_mt);
		return;
	}
	if (!whole_block) {
		move_to_list(pool, zone, pfn, order, start_mt);
		return;
	}
	count = count_block(pool, zone, pfn);
	if (start_mt == MIGRATE_MOVABLE)
		alike = count.nr_movable;
	else if (old_mt == MIGRATE_MOVABLE)
		/* pages that are neither free nor movable are as good as ours */
		alike = PAGEBLOCK_NR_PAGES - (count.nr_free + count.nr_movable);
	move_freepages_block(pool, zone, pfn, start_mt);
	if (count.nr_free + alike >= PAGEBLOCK_NR_PAGES / 2 || pool->mobility_disabled)
		set_pageblock_migratetype(pool, pfn, start_mt);
}

static u32 find_fallback(struct pool *pool, unsigned int zone, unsigned int order,
			 unsigned int start_mt)
{
	const struct free_area *area = &pool_zone(pool, zone)->free_area[order];

	for (unsigned int i = 0; i < MIGRATE_PCPTYPES - 1; i++) {
		u32 pfn = area->free_list[fallbacks[start_mt][i]];

		if (pfn && pfn < pool->nr_pages && page_is_buddy(pool, zone, pfn, order))
			return pfn;
	}
	return 0;
}

bool rmqueue_fallback(struct pool *pool, unsigned int zone, unsigned int order,
		      unsigned int max_order, unsigned int mt)
{
	u32 pfn;

	if (mt >= MIGRATE_PCPTYPES)
		return false;
	for (int current = (int)max_order; current >= (int)order; current--) {
		bool can_steal = can_steal_fallback(pool, (unsigned int)current, mt);

		pfn = find_fallback(pool, zone, (unsigned int)current, mt);
		if (!pfn)
			continue;
		if (!can_steal && mt == MIGRATE_MOVABLE && current > (int)order)
			break;
		steal_suitable_fallback(pool, zone, pfn, (unsigned int)current, mt, can_steal);
		return true;
	}
	for (unsigned int current = order; current <= max_order; current++) {
		pfn = find_fallback(pool, zone, current, mt);
		if (!pfn)
			continue;
		steal_suitable_fallback(pool, zone, pfn, current, mt,
					can_steal_fallback(pool, current, mt));
		return true;
	}
	return false;
}

void reserve_highatomic_pageblock(struct pool *pool, unsigned int zone, u32 pfn)
{
	struct zone *z = pool_zone(pool, zone);
	u64 max_managed = z->managed_pages / 100;
	unsigned int mt = get_pageblock_migratetype(pool, pfn);

	if (max_managed < PAGEBLOCK_NR_PAGES)
		return;
	max_managed = (max_managed + PAGEBLOCK_NR_PAGES - 1) & ~(u64)(PAGEBLOCK_NR_PAGES - 1);
	if (z->nr_reserved_highatomic >= max_managed || mt >= MIGRATE_PCPTYPES)
		return;
	set_pageblock_migratetype(pool, pfn, MIGRATE_HIGHATOMIC);
	move_freepages_block(pool, zone, pfn, MIGRATE_HIGHATOMIC);
	z->nr_reserved_highatomic += PAGEBLOCK_NR_PAGES;
}

bool unreserve_highatomic_pageblock(struct pool *pool, unsigned int zone, unsigned int mt)
{
	struct zone *z = pool_zone(pool, zone);

	for (unsigned int order = 0; order <= MAX_PAGE_ORDER; order++) {
		u32 pfn = z->free_area[order].free_list[MIGRATE_HIGHATOMIC];

		if (!pfn || pfn >= pool->nr_pages || !page_is_buddy(pool, zone, pfn, order))
			continue;
		set_pageblock_migratetype(pool, pfn, mt);
		move_freepages_block(pool, zone, pfn, mt);
		z->nr_reserved_highatomic -= z->nr_reserved_highatomic < PAGEBLOCK_NR_PAGES
						     ? z->nr_reserved_highatomic
						     : PAGEBLOCK_NR_PAGES;
		return true;
	}
	return false;
}
