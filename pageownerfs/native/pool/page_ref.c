// SPDX-License-Identifier: MIT
/*
 * page_ref.c - references to allocated blocks, and splitting them.
 *
 * Mirrors include/linux/page_ref.h, and split_page() of mm/page_alloc.c.
 */
#include "pool/internal.h"

/* Of an allocated head, or -BAD_*. */
int allocated_order(struct pool *pool, u32 pfn)
{
	int error;
	u64 word;

	if (pfn >= pool->nr_pages)
		return -BAD_PFN;
	word = page_word(pool, pfn);
	error = check_allocated(word);
	return error ? error : (int)word_order(word);
}

/* get_page(): one more reference to an allocated block. */
int get_page(struct pool *pool, u32 pfn)
{
	_Atomic u64 *wordp;
	u64 word;

	if (pfn >= pool->nr_pages)
		return -BAD_PFN;
	wordp = &pfn_to_page(pool, pfn)->word;
	word = atomic_load(wordp);
	do {
		int error = check_allocated(word);

		if (error)
			return error;
		if (word_count(word) >= 0x7fffffff)
			return -BAD_COUNT;
	} while (!atomic_compare_exchange_weak(wordp, &word, word + 1));
	return 0;
}

/*
 * split_page(): an allocated block becomes blocks of new_order, each with a reference of its own.
 */
int split_page(struct pool *pool, u32 pfn, unsigned int new_order)
{
	int order = allocated_order(pool, pfn);
	unsigned int zone;
	int error, gate;

	if (order < 0)
		return order;
	if (new_order >= (unsigned int)order)
		return new_order == (unsigned int)order ? 0 : -BAD_ORDER;
	gate = begin_op(pool);
	if (gate < 0)
		return gate;
	zone = page_zone(pool, pfn);
	error = zone_lock(pool, zone);
	if (!error) {
		u64 word = page_word(pool, pfn);

		if (word != PAGE_WORD(PAGE_ALLOCATED, order, 0, 1))
			error = word_state(word) == PAGE_ALLOCATED ? -BAD_COUNT : -BAD_FREE;
		else if (pfn_to_page(pool, pfn)->flags & 1ULL << PG_head)
			error = -BAD_COMPOUND;
	}
	if (!error) {
#if CONFIG_PAGE_OWNER
		if (gate & GATE_PAGE_OWNER)
			__split_page_owner(pool, pfn, (unsigned int)order, new_order);
#endif
		/* The head last: until then its word covers the block. */
		for (u32 nr = (1U << order) - (1U << new_order); nr; nr -= 1U << new_order) {
			pfn_to_page(pool, pfn + nr)->gfp_mask = pfn_to_page(pool, pfn)->gfp_mask;
			set_page_word(pool, pfn + nr, PAGE_WORD(PAGE_ALLOCATED, new_order, 0, 1));
		}
		set_page_word(pool, pfn, PAGE_WORD(PAGE_ALLOCATED, new_order, 0, 1));
		pool->client->pgsplit += 1U << order;
	}
	if (error != -EBUSY)
		zone_unlock(pool, zone);
	end_op(pool);
	return error;
}
