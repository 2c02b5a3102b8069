// SPDX-License-Identifier: MIT
/*
 * mixed_blocks.c - pageblocks with an owner whose mask asks for another migratetype than the
 * block's.
 *
 * Mirrors pagetypeinfo_showmixedcount_print() of mm/page_owner.c.
 */
#include <stdlib.h>

#include "base/gfp.h"
#include "tables/mixed_blocks.h"
#include "tables/page_ext.h"
#include "pool/layout.h"

#define MAX_LIST_ORDER 20 /* no kernel has larger blocks, whatever a text says */

/* The types of the blocks that begin at ahead->pfn. */
static void block_types(const struct po_table *table, struct lookahead *ahead)
{
	for (u32 i = 0; i < ahead->nr; i++) {
		u64 pfn = ahead->pfn[i];

		ahead->info[i].pageblock_migratetype =
			table->pageblock_flags
				? table->pageblock_flags[pfn >> table->pageblock_order]
				: record_at(table, pfn)->pageblock_migratetype;
	}
	if (table->scan)
		table->scan(table->scanner, ahead);
}

static void count_blocks(u64 counts[NR_MIGRATETYPES], u8 migratetype, int cma, u64 nr)
{
	counts[migratetype == cma ? MIGRATE_MOVABLE : migratetype] += nr;
}

/* Pages of the free block that begins here, if it is known to be one; else 0. */
static u64 nr_free_pages(const struct po_table *table, u64 pfn)
{
	u64 word;

	if (!table->words)
		return 0;
	word = *(const volatile u64 *)(table->words +
				       (pfn - table->start_pfn) * table->flags_stride);
	return word_state(word) == PAGE_BUDDY && word_order(word) <= MAX_PAGE_ORDER
		       ? 1ULL << word_order(word)
		       : 0;
}

/*
 * Whether an owner in the block is of another type; *at moves to where the next block is looked at,
 * or beyond.
 */
static bool is_mixed(const struct po_table *table, u64 *at, u64 end_pfn, u8 migratetype)
{
	u64 pfn = *at + nr_free_pages(table, *at);

	while (pfn < end_pfn) {
		const struct page_owner *shared = record_at(table, pfn);
		u8 state = state_of(shared);

		if (!(state & PAGE_EXT_OWNER_ALLOCATED)) {
			u64 nr_free = nr_free_pages(table, pfn);

			pfn += nr_free ? nr_free : 1;
		} else if (state & PAGE_EXT_OWNER_EARLY && table->early_unknown) {
			pfn++;
		} else if (gfp_migratetype(*(const volatile u32 *)&shared->gfp_mask) !=
			   migratetype) {
			*at = end_pfn;
			return true;
		} else {
			pfn = pfn_after(table, pfn, *(const volatile u8 *)&shared->order);
		}
	}
	*at = pfn;
	return false;
}

/*
 * The same from the heads alone: all that the kernel looks at, since it steps from one to the next.
 */
static void count_in_list(const struct po_table *table, const struct mixed_range *range,
			  u64 counts[NR_MIGRATETYPES])
{
	const struct record_list *list = table->list;
	u64 next_pfn = range->start_pfn, mixed_block = UINT64_MAX;

	for (u64 at = 0; at < list->nr; at++) {
		const struct page_owner *owner = &list->records[at];
		const struct record_info *info = &list->infos[owner->info];
		u64 pfn = record_pfn(owner), block = pfn >> table->pageblock_order;

		if (at && pfn <= record_pfn(owner - 1)) { /* another dump begins */
			next_pfn = range->start_pfn;
			mixed_block = UINT64_MAX;
		}
		if (pfn < next_pfn || pfn >= range->end_pfn || block == mixed_block ||
		    info->reserved || (range->nid >= 0 && info->nid != range->nid) ||
		    (range->zone >= 0 && info->zone != range->zone) ||
		    !(owner->state & PAGE_EXT_OWNER_ALLOCATED) ||
		    (owner->state & PAGE_EXT_OWNER_EARLY && table->early_unknown))
			continue;
		next_pfn = pfn + (1ULL << (owner->order < MAX_LIST_ORDER ? owner->order
									 : MAX_LIST_ORDER));
		if (info->page_mt == owner->pageblock_migratetype ||
		    owner->pageblock_migratetype >= NR_MIGRATETYPES)
			continue;
		/*
		 * Of a block that is larger the kernel looks at the tails, too; all of it has one
		 * type.
		 */
		mixed_block = (next_pfn - 1) >> table->pageblock_order;
		count_blocks(counts, owner->pageblock_migratetype, range->cma,
			     mixed_block - block + 1);
	}
}

bool count_mixed_blocks(const struct po_table *table, const struct mixed_range *range,
			u64 counts[NR_MIGRATETYPES])
{
	u64 block = 1ULL << table->pageblock_order, pfn = range->start_pfn & ~(block - 1);
	u64 dropped_pfn = range->start_pfn, at = range->start_pfn;
	struct lookahead *ahead;

	if (table->list) {
		count_in_list(table, range, counts);
		return true;
	}
	ahead = calloc(1, sizeof(*ahead));
	if (!ahead)
		return false;
	while (pfn < range->end_pfn && !table_is_empty(table)) {
		for (ahead->nr = 0; pfn < range->end_pfn && ahead->nr < PAGE_SCAN_BATCH;
		     pfn += block)
			ahead->pfn[ahead->nr++] = pfn < range->start_pfn ? range->start_pfn : pfn;
		block_types(table, ahead);
		for (u32 i = 0; i < ahead->nr; i++) {
			u64 last = (ahead->pfn[i] & ~(block - 1)) + block;
			u8 migratetype = ahead->info[i].pageblock_migratetype;

			last = last < range->end_pfn ? last : range->end_pfn;
			if (at < ahead->pfn[i])
				at = ahead->pfn[i];
			if (at < last && migratetype < NR_MIGRATETYPES &&
			    is_mixed(table, &at, last, migratetype))
				count_blocks(counts, migratetype, range->cma, 1);
		}
		if (pfn > table->start_pfn)
			drop_behind(table, &dropped_pfn,
				    pfn < table->end_pfn ? pfn : table->end_pfn);
	}
	free(ahead);
	return true;
}
