// SPDX-License-Identifier: MIT
/*
 * layout.c - the regions of a pool's file.
 */
#include <errno.h>

#include "pool/layout.h"

#define ROUND_UP(x, to) (((x) + (to) - 1) / (to) * (to))

void pool_layout(struct pool_header *header, const struct pool_config *config)
{
	u32 low = (u32)((config->size - config->movablecore) >> PAGE_SHIFT);
	u32 movable = (u32)(config->movablecore >> PAGE_SHIFT);
	u32 nr_ext = 0, low_end, movable_start, nr_pages;
	u64 offset;

	for (;;) { /* page_ext describes its own pages, too */
		low_end = 1 + low + nr_ext;
		movable_start = movable ? ROUND_UP(low_end, MAX_ORDER_NR_PAGES) : low_end;
		nr_pages = movable_start + movable;
		u32 need = (u32)(((u64)nr_pages * sizeof(struct page_owner) + PAGE_SIZE - 1) >>
				 PAGE_SHIFT);

		if (need <= nr_ext)
			break;
		nr_ext = need;
	}
	header->nr_pages = nr_pages;
	header->page_ext_pfn = 1 + low;
	header->nr_page_ext_pages = nr_ext;
	header->zones[ZONE_DMA].start_pfn = 1;
	header->zones[ZONE_DMA].end_pfn = low_end < DMA_END_PFN ? low_end : DMA_END_PFN;
	header->zones[ZONE_NORMAL].start_pfn = header->zones[ZONE_DMA].end_pfn;
	header->zones[ZONE_NORMAL].end_pfn = low_end;
	header->zones[ZONE_MOVABLE].start_pfn = movable_start;
	header->zones[ZONE_MOVABLE].end_pfn = nr_pages;

	offset = (u64)nr_pages << PAGE_SHIFT;
	header->mem_map_offset = offset;
	offset += ROUND_UP((u64)nr_pages * sizeof(struct page), PAGE_SIZE);
	header->pageblock_offset = offset;
	offset += ROUND_UP(((u64)nr_pages >> PAGEBLOCK_ORDER) + 1, PAGE_SIZE);
	header->clients_offset = offset;
	offset += ROUND_UP(sizeof(struct pool_client) * NR_CLIENTS, PAGE_SIZE);
	header->depot_offset = offset;
	header->depot_bytes = ROUND_UP(config->stack_depot_bytes, PAGE_SIZE);
	offset += DEPOT_HASH_BYTES + header->depot_bytes;
	header->file_bytes = offset;
	header->stack_depth = config->stack_depth;
	header->page_group_by_mobility_disabled =
		low + movable < PAGEBLOCK_NR_PAGES * MIGRATE_TYPES;
}

static bool region_ok(const struct pool_header *h, u64 offset, u64 bytes)
{
	return offset % PAGE_SIZE == 0 && offset <= h->file_bytes &&
	       bytes <= h->file_bytes - offset;
}

int pool_check_header(const struct pool_header *h, u64 file_bytes)
{
	if (h->magic != POOL_MAGIC)
		return -EMEDIUMTYPE;
	if (h->abi_version != POOL_ABI_VERSION || h->header_bytes != sizeof(struct pool_header) ||
	    h->page_bytes != sizeof(struct page) || h->client_bytes != sizeof(struct pool_client) ||
	    h->page_owner_bytes != sizeof(struct page_owner))
		return -EPROTO;
	if (h->file_bytes != file_bytes || h->nr_pages == 0 || h->nr_pages > MAX_NR_PAGES ||
	    h->stack_depth < 1 || h->stack_depth > MAX_STACK_DEPTH ||
	    h->page_ext_pfn >= h->nr_pages ||
	    h->nr_page_ext_pages > h->nr_pages - h->page_ext_pfn ||
	    (u64)h->nr_page_ext_pages * PAGE_SIZE < (u64)h->nr_pages * sizeof(struct page_owner) ||
	    h->mem_map_offset < (u64)h->nr_pages << PAGE_SHIFT)
		return -EUCLEAN;
	if (!region_ok(h, h->mem_map_offset, (u64)h->nr_pages * sizeof(struct page)) ||
	    !region_ok(h, h->pageblock_offset, (h->nr_pages >> PAGEBLOCK_ORDER) + 1) ||
	    !region_ok(h, h->clients_offset, sizeof(struct pool_client) * NR_CLIENTS) ||
	    h->depot_bytes > h->file_bytes ||
	    !region_ok(h, h->depot_offset, DEPOT_HASH_BYTES + h->depot_bytes))
		return -EUCLEAN;
	for (int zone = 0; zone < MAX_NR_ZONES; zone++)
		if (h->zones[zone].start_pfn > h->zones[zone].end_pfn ||
		    h->zones[zone].start_pfn == 0 || h->zones[zone].end_pfn > h->nr_pages)
			return -EUCLEAN;
	return 0;
}

void pool_adopt(struct pool *pool)
{
	const struct pool_header *header = pool->header;

	pool->nr_pages = header->nr_pages;
	pool->nr_pageblocks = (pool->nr_pages + PAGEBLOCK_NR_PAGES - 1) >> PAGEBLOCK_ORDER;
	pool->mem_map = (struct page *)(pool->base + header->mem_map_offset);
	pool->pageblock_flags = (u8 *)(pool->base + header->pageblock_offset);
	pool->clients = (struct pool_client *)(pool->base + header->clients_offset);
	pool->page_ext_pfn = header->page_ext_pfn;
	pool->nr_page_ext_pages = header->nr_page_ext_pages;
	pool->page_ext = page_address(pool, header->page_ext_pfn);
	pool->stack_depth = header->stack_depth;
	pool->mobility_disabled = header->page_group_by_mobility_disabled;
	pool->depot_hash = (u32 *)(pool->base + header->depot_offset);
	pool->depot = pool->base + header->depot_offset + DEPOT_HASH_BYTES;
	pool->depot_bytes = header->depot_bytes;
	for (int zone = 0; zone < MAX_NR_ZONES; zone++) {
		pool->zone_span[zone].start_pfn = header->zones[zone].start_pfn;
		pool->zone_span[zone].end_pfn = header->zones[zone].end_pfn;
		pool->pcp_batch[zone] = header->zones[zone].pcp_batch;
		pool->pcp_high[zone] = header->zones[zone].pcp_high;
		if (pool->pcp_high[zone] > PCP_HIGH_MAX)
			pool->pcp_high[zone] = PCP_HIGH_MAX;
		pool->first_zone[zone] = (u8)zone;
		if (header->zones[zone].start_pfn == header->zones[zone].end_pfn && zone > 0)
			pool->first_zone[zone] = pool->first_zone[zone - 1];
	}
}
