// SPDX-License-Identifier: MIT
/*
 * pool_table.c - the records of a pool's pages.
 */
#include <sys/mman.h>

#include "base/gfp.h"
#include "pool/client.h"
#include "tables/mixed_blocks.h"
#include "tables/page_ext_table.h"
#include "tables/pool_table.h"

static inline const struct pool *pool_of(const struct table *table)
{
	return ((const struct pool_table *)table)->pool;
}

static __always_inline u64 pool_next(const struct table *table, u64 pfn, u64 end)
{
	return page_ext_next(table, pool_of(table)->page_ext, NULL, pfn, end);
}

static __always_inline bool pool_copy(const struct table *table, u64 pfn, struct record *record)
{
	return page_ext_copy(pool_of(table)->page_ext, NULL, pfn, record);
}

static u32 pool_heads(const struct table *table, u64 *at, u64 end, struct head *heads, u32 nr)
{
	return next_heads(table, pool_next, pool_copy, at, end, heads, nr);
}

static bool pool_info(const struct table *table, struct record *record, struct lookahead **ahead,
		      u32 nr)
{
	const struct pool *pool = pool_of(table);

	(void)ahead;
	(void)nr;
	record->flags = *(const volatile u64 *)&pool->mem_map[record->pfn].flags;
	record->memcg = 0;
	record->nid = 0;
	record->page_mt = (u8)gfp_migratetype(record->owner.gfp_mask);
	record->block_mt = pool->pageblock_flags[record->pfn >> PAGEBLOCK_ORDER];
	record->fields = 0;
	record->printed = NULL;
	record->verbatim = NULL;
	return true;
}

static bool version(const struct table *table, u64 *version)
{
	*version = pool_version(pool_of(table));
	return true;
}

static void unmap(const struct table *table, u64 start, u64 end)
{
	const struct pool *pool = pool_of(table);
	const char *parts[][2] = {
		{(const char *)&pool->page_ext[start], (const char *)&pool->page_ext[end]},
		{(const char *)&pool->mem_map[start], (const char *)&pool->mem_map[end]}};

	for (int i = 0; i < 2; i++) {
		uintptr_t first = (uintptr_t)parts[i][0] & ~(PAGE_SIZE - 1);
		uintptr_t last = (uintptr_t)parts[i][1] & ~(PAGE_SIZE - 1);

		if (last > first)
			madvise((void *)first, last - first, MADV_DONTNEED);
	}
}

static const struct table_ops pool_table_ops = {
	.next = pool_next,
	.copy = pool_copy,
	.info = pool_info,
	.heads = pool_heads,
	.find = page_ext_find,
	.seek = page_ext_seek,
	.version = version,
	.mixed_blocks = pool_mixed_blocks,
	.unmap = unmap,
};

void pool_table_init(struct pool_table *self, const struct pool *pool)
{
	*self = (struct pool_table){
		.table = {.ops = &pool_table_ops,
			  .end = pool->nr_pages,
			  .pageblock_order = PAGEBLOCK_ORDER,
			  .by_page = true,
			  .gate = &pool->header->gate,
			  .gate_bit = GATE_PAGE_OWNER},
		.pool = pool,
	};
}
