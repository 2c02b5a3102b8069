// SPDX-License-Identifier: MIT
/*
 * mixed_blocks.c - pageblocks with an owner of another migratetype.
 *
 * Tables by page are read page by page, as in the kernel. A list has only the heads of blocks,
 * which is all that the kernel reads, because it steps from one head to the next.
 */
#include <stdlib.h>

#include "base/gfp.h"
#include "tables/kernel_table.h"
#include "tables/mixed_blocks.h"
#include "tables/page_ext_table.h"
#include "tables/pool_table.h"
#include "tables/record_table.h"

#define MAX_LIST_ORDER 20 /* no kernel has larger blocks, whatever a text claims */

static void count_blocks(u64 *counts, u8 migratetype, int cma, u64 nr)
{
	counts[migratetype == cma ? MIGRATE_MOVABLE : migratetype] += nr;
}

/* What a table by page provides besides its records. */
struct page_blocks {
	const struct page_owner *page_ext;
	/* Fill in the migratetypes of the pageblocks that start at ahead->pfn. */
	void (*types)(const struct table *table, struct lookahead *ahead);
	/* The pages of the free block that starts at pfn; 0 if not known to be one. */
	u64 (*nr_free)(const struct table *table, u64 pfn);
};

/*
 * Does the block have an owner of another type? *at moves to where the next block is to be read, or
 * beyond.
 */
static __always_inline bool is_mixed(const struct table *table, const struct page_blocks *blocks,
				     u64 *at, u64 end_pfn, u8 migratetype)
{
	u64 pfn = *at + blocks->nr_free(table, *at);

	while (pfn < end_pfn) {
		const struct page_owner *shared = &blocks->page_ext[pfn];
		u8 state = state_of(shared);

		if (!(state & PAGE_EXT_OWNER_ALLOCATED)) {
			u64 nr_free = blocks->nr_free(table, pfn);

			pfn += nr_free ? nr_free : 1;
		} else if (state & PAGE_EXT_OWNER_EARLY && table->early_unknown) {
			pfn++;
		} else if (gfp_migratetype(*(const volatile u32 *)&shared->gfp_mask) !=
			   migratetype) {
			*at = end_pfn;
			return true;
		} else {
			pfn = place_after(table, pfn, order_of(shared));
		}
	}
	*at = pfn;
	return false;
}

static __always_inline bool count_by_page(const struct table *table,
					  const struct page_blocks *blocks,
					  const struct mixed_range *range, u64 *counts)
{
	u64 block = 1ULL << table->pageblock_order, pfn = range->start_pfn & ~(block - 1);
	u64 mapped = range->start_pfn, at = range->start_pfn;
	struct lookahead *ahead = calloc(1, sizeof(*ahead));

	if (!ahead)
		return false;
	while (pfn < range->end_pfn && !table_is_empty(table)) {
		for (ahead->nr = 0; pfn < range->end_pfn && ahead->nr < PAGE_SCAN_BATCH;
		     pfn += block)
			ahead->pfn[ahead->nr++] = pfn < range->start_pfn ? range->start_pfn : pfn;
		blocks->types(table, ahead);
		for (u32 i = 0; i < ahead->nr; i++) {
			u64 last = (ahead->pfn[i] & ~(block - 1)) + block;
			u8 migratetype = ahead->info[i].pageblock_migratetype;

			last = last < range->end_pfn ? last : range->end_pfn;
			if (at < ahead->pfn[i])
				at = ahead->pfn[i];
			if (at < last && migratetype < NR_MIGRATETYPES &&
			    is_mixed(table, blocks, &at, last, migratetype))
				count_blocks(counts, migratetype, range->cma, 1);
		}
		if (pfn > table->start)
			unmap_behind(table, &mapped, pfn < table->end ? pfn : table->end);
	}
	free(ahead);
	return true;
}

/* ---- pool ---- */

static void pool_types(const struct table *table, struct lookahead *ahead)
{
	const struct pool *pool = ((const struct pool_table *)table)->pool;

	for (u32 i = 0; i < ahead->nr; i++)
		ahead->info[i].pageblock_migratetype =
			pool->pageblock_flags[ahead->pfn[i] >> PAGEBLOCK_ORDER];
}

static inline u64 pool_nr_free(const struct table *table, u64 pfn)
{
	const struct pool *pool = ((const struct pool_table *)table)->pool;
	u64 word = *(const volatile u64 *)&pool->mem_map[pfn].word;

	return word_state(word) == PAGE_BUDDY && word_order(word) <= MAX_PAGE_ORDER
		       ? 1ULL << word_order(word)
		       : 0;
}

bool pool_mixed_blocks(const struct table *table, const struct mixed_range *range, u64 *counts)
{
	const struct page_blocks blocks = {
		.page_ext = ((const struct pool_table *)table)->pool->page_ext,
		.types = pool_types,
		.nr_free = pool_nr_free,
	};

	return count_by_page(table, &blocks, range, counts);
}

/* ---- kernel ---- */

static void kernel_types(const struct table *table, struct lookahead *ahead)
{
	const struct kernel_table *self = (const struct kernel_table *)table;

	/* the fallback if the lookup fails */
	for (u32 i = 0; i < ahead->nr; i++)
		ahead->info[i].pageblock_migratetype =
			self->page_ext[ahead->pfn[i]].pageblock_migratetype;
	page_scanner_scan((struct page_scanner *)&self->scanner, ahead);
}

static inline u64 kernel_nr_free(const struct table *table, u64 pfn)
{
	(void)table;
	(void)pfn;
	return 0;
}

bool kernel_mixed_blocks(const struct table *table, const struct mixed_range *range, u64 *counts)
{
	const struct page_blocks blocks = {
		.page_ext = ((const struct kernel_table *)table)->page_ext,
		.types = kernel_types,
		.nr_free = kernel_nr_free,
	};

	return count_by_page(table, &blocks, range, counts);
}

/* ---- list ---- */

static bool in_range(const struct mixed_range *range, const struct record_info *info, u64 pfn)
{
	return pfn < range->end_pfn && !info->reserved &&
	       (range->nid < 0 || info->nid == range->nid) &&
	       (range->zone < 0 || info->zone == range->zone);
}

bool record_mixed_blocks(const struct table *table, const struct mixed_range *range, u64 *counts)
{
	const struct record_list *list = &((const struct record_table *)table)->list;
	u64 next_pfn = range->start_pfn, mixed_block = UINT64_MAX;

	for (u64 at = 0; at < list->nr; at++) {
		const struct page_owner *owner = &list->records[at];
		const struct record_info *info = &list->infos[owner->info];
		u64 pfn = record_pfn(owner), block = pfn >> table->pageblock_order;

		if (at && pfn <= record_pfn(owner - 1)) { /* another dump starts */
			next_pfn = range->start_pfn;
			mixed_block = UINT64_MAX;
		}
		if (pfn < next_pfn || block == mixed_block || !in_range(range, info, pfn) ||
		    !(owner->state & PAGE_EXT_OWNER_ALLOCATED) ||
		    (owner->state & PAGE_EXT_OWNER_EARLY && table->early_unknown))
			continue;
		next_pfn = pfn + (1ULL << (owner->order < MAX_LIST_ORDER ? owner->order
									 : MAX_LIST_ORDER));
		if (info->page_mt == owner->pageblock_migratetype ||
		    owner->pageblock_migratetype >= NR_MIGRATETYPES)
			continue;
		/*
		 * In an allocation larger than a pageblock the kernel reads the tail pages, too;
		 * all of it has one type.
		 */
		mixed_block = (next_pfn - 1) >> table->pageblock_order;
		count_blocks(counts, owner->pageblock_migratetype, range->cma,
			     mixed_block - block + 1);
	}
	return true;
}
