// SPDX-License-Identifier: MIT
/*
 * tracking.c - switching tracking on, and recounting the stacks.
 *
 * Mirrors init_page_owner() and init_pages_in_zone() of mm/page_owner.c (6.12).
 */
#include "pool/layout.h"

#if CONFIG_PAGE_OWNER
#include "pool/client.h"
#include "pool/freeze.h"
#include "pool/lock.h"
#include "pool/map.h"
#include "pool/page_owner.h"
#include "pool/stack_depot.h"
#include "pool/tracking.h"

int init_page_owner_memory(struct pool *pool)
{
	u64 offset = (u64)pool->page_ext_pfn << PAGE_SHIFT;
	u64 bytes = (u64)pool->nr_page_ext_pages << PAGE_SHIFT;
	int error = pool_commit(pool, offset, bytes);

	error = error ? error : depot_init(pool);
	if (error)
		pool_decommit(pool, offset, bytes);
	return error;
}

void drop_page_owner_memory(struct pool *pool)
{
	depot_drop(pool);
	pool_decommit(pool, (u64)pool->page_ext_pfn << PAGE_SHIFT,
		      (u64)pool->nr_page_ext_pages << PAGE_SHIFT);
}

/* Add page_ext's own pages to their zones. They are the first to be found early. */
static void online_page_ext(struct pool *pool)
{
	u32 end = pool->page_ext_pfn + pool->nr_page_ext_pages;

	for (u32 pfn = pool->page_ext_pfn; pfn < end; pfn++) {
		struct page *page = pfn_to_page(pool, pfn);

		page->flags &= ~(1ULL << PG_reserved);
		page->gfp_mask = 0;
		pool->header->zones[page_zone(pool, pfn)].managed_pages++;
		set_page_word(pool, pfn, PAGE_WORD(PAGE_ALLOCATED, 0, 0, 1));
	}
}

static u64 init_pages_in_zone(struct pool *pool, unsigned int zone, const struct page_owner *early)
{
	u64 nr_early = 0;
	u32 pfn = pool->zone_span[zone].start_pfn;

	while (pfn < pool->zone_span[zone].end_pfn) {
		u64 word = page_word(pool, pfn);
		u32 nr = word_state(word) == PAGE_ALLOCATED || word_state(word) == PAGE_BUDDY
				 ? 1U << (word_order(word) <= MAX_PAGE_ORDER ? word_order(word) : 0)
				 : 1;

		for (u32 i = 0;
		     i < nr && word_state(word) == PAGE_ALLOCATED && pfn + i < pool->nr_pages;
		     i++) {
			if (pool->page_ext[pfn + i].state & PAGE_EXT_OWNER_ALLOCATED)
				continue;
			set_early_page_owner(pool, pfn + i, early);
			nr_early++;
		}
		pfn += nr;
	}
	return nr_early;
}

int init_page_owner(struct pool *pool, u64 nr_early[MAX_NR_ZONES])
{
	int error = pool_freeze(pool, PATIENCE_NSEC);

	if (error)
		return error;
	if (!(atomic_load(&pool->header->gate) & GATE_PAGE_OWNER)) {
		struct page_owner early = early_page_owner(pool);

		online_page_ext(pool);
		for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++) {
			nr_early[zone] = init_pages_in_zone(pool, zone, &early);
			stat_add(pool, early_pages, nr_early[zone]);
		}
		atomic_fetch_or(&pool->header->gate, GATE_PAGE_OWNER);
	}
	pool_thaw(pool);
	return 0;
}

int recount_stacks(struct pool *pool)
{
	struct stack_record stack;
	int error = pool_freeze(pool, PATIENCE_NSEC);

	if (error)
		return error;
	for (u32 slot = 0; slot < pool_nr_clients(pool); slot++)
		depot_flush_pages(pool, slot);
	for (u32 handle = 0; (handle = depot_next_stack(pool, handle, &stack));
	     handle = depot_after(pool, handle))
		depot_set_pages(pool, handle, 0);
	for (u32 pfn = 0; pfn < pool->nr_pages; pfn++)
		if (is_counted(&pool->page_ext[pfn]))
			depot_add_pages(pool, pool->page_ext[pfn].handle, 1);
	/* Last, so that if we die before this, the next caller counts again. */
	atomic_store(&pool->header->stacks_suspect, 0);
	pool_thaw(pool);
	return 0;
}
#endif
