// SPDX-License-Identifier: MIT
/*
 * mixed_blocks.c - pageblocks with an owner whose mask asks for another migratetype than the block's.
 *
 * Mirrors pagetypeinfo_showmixedcount_print() of mm/page_owner.c.
 */
#include <stdlib.h>

#include "mixed_blocks.h"
#include "page_ext.h"

#define MIGRATE_MOVABLE 1
#define GFP_MIGRATETYPE(gfp_mask) ((gfp_mask) >> 3 & 3)

/* The types of the blocks that begin at ahead->pfn. */
static void block_types(const struct po_table *table, struct lookahead *ahead)
{
	for (u32 i = 0; i < ahead->nr; i++) {
		u64 pfn = ahead->pfn[i];

		ahead->info[i].pageblock_migratetype = table->pageblock_flags ?
			table->pageblock_flags[pfn >> table->pageblock_order] : record_at(table, pfn)->pageblock_migratetype;
	}
	if (table->scan)
		table->scan(table->scanner, ahead);
}

/* Whether an owner in the block is of another type. What is early tells no type: the kernel takes it for Unmovable. */
static bool is_mixed(const struct po_table *table, u64 pfn, u64 end_pfn, u8 migratetype)
{
	while (pfn < end_pfn) {
		const struct page_owner *shared = record_at(table, pfn);
		u8 state = state_of(shared);
		u64 next = pfn_after(pfn, *(const volatile u8 *)&shared->order);

		if (!(state & PAGE_EXT_OWNER_ALLOCATED) || state & PAGE_EXT_OWNER_EARLY) {
			pfn++;
			continue;
		}
		if (GFP_MIGRATETYPE(*(const volatile u32 *)&shared->gfp_mask) != migratetype)
			return true;
		pfn = next;
	}
	return false;
}

bool count_mixed_blocks(const struct po_table *table, u64 start_pfn, u64 end_pfn, int cma,
			u64 counts[NR_MIGRATETYPES])
{
	u64 block = 1ULL << table->pageblock_order, pfn = start_pfn & ~(block - 1);
	struct lookahead *ahead = calloc(1, sizeof(*ahead));

	if (!ahead)
		return false;
	while (pfn < end_pfn && !table_is_empty(table)) {
		for (ahead->nr = 0; pfn < end_pfn && ahead->nr < PAGE_SCAN_BATCH; pfn += block)
			ahead->pfn[ahead->nr++] = pfn < start_pfn ? start_pfn : pfn;
		block_types(table, ahead);
		for (u32 i = 0; i < ahead->nr; i++) {
			u64 last = (ahead->pfn[i] & ~(block - 1)) + block;
			u8 migratetype = ahead->info[i].pageblock_migratetype;

			if (migratetype < NR_MIGRATETYPES &&
			    is_mixed(table, ahead->pfn[i], last < end_pfn ? last : end_pfn, migratetype))
				counts[migratetype == cma ? MIGRATE_MOVABLE : migratetype]++;
		}
	}
	free(ahead);
	return true;
}
