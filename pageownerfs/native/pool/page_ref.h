/* SPDX-License-Identifier: MIT */
/* References to allocated blocks. Mirrors include/linux/page_ref.h. */
#ifndef PAGEOWNERFS_PAGE_REF_H
#define PAGEOWNERFS_PAGE_REF_H

#include "pool/layout.h"

/*
 * What is wrong with a PFN passed by a caller. Returned negated; the values lie beyond those of
 * errno.
 */
enum bad_page {
	BAD_PFN = 5000, /* outside the pool, or reserved */
	BAD_FREE,	/* not allocated: a double free, or never allocated */
	BAD_TAIL,	/* a tail page of an allocated block */
	BAD_ORDER,	/* allocated with another order */
	BAD_COMPOUND,	/* can't split a compound page */
	BAD_COUNT,	/* shared where it must not be, or too many references */
};

/* The order of an allocated block, given its head, or -BAD_*. */
int allocated_order(struct pool *pool, u32 pfn);
/* Take another reference to an allocated block. 0 or -BAD_*. */
int get_page(struct pool *pool, u32 pfn);

/* Does this word belong to an allocated head? 0 or -BAD_*. */
static inline int check_allocated(u64 word)
{
	switch (word_state(word)) {
	case PAGE_ALLOCATED:
		return word_order(word) <= MAX_PAGE_ORDER ? 0 : -BAD_PFN;
	case PAGE_TAIL:
		return -BAD_TAIL;
	case PAGE_RESERVED:
		return -BAD_PFN;
	default:
		return -BAD_FREE;
	}
}

/*
 * Drop a reference. 0: others remain; 1: it was the last, and we own the block now (PAGE_PCP);
 * negative: refused.
 */
static inline int put_page_testzero(struct pool *pool, u32 pfn, int order)
{
	_Atomic u64 *wordp = &pfn_to_page(pool, pfn)->word;
	u64 word = atomic_load_explicit(wordp, memory_order_acquire);

	for (;;) {
		int error = check_allocated(word);
		u64 new;

		if (unlikely(error))
			return error;
		if (unlikely(order >= 0 && word_order(word) != (unsigned int)order))
			return -BAD_ORDER;
		if (likely(word_count(word) <= 1))
			new = PAGE_WORD(PAGE_PCP, word_order(word), pool->slot, 0);
		else
			new = word - 1;
		if (likely(atomic_compare_exchange_weak(wordp, &word, new)))
			return word_count(word) <= 1;
	}
}

#endif
