// SPDX-License-Identifier: MIT
/*
 * page_ref.c - references to allocated blocks.
 *
 * Mirrors include/linux/page_ref.h.
 */
#include "pool/page_ref.h"

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
