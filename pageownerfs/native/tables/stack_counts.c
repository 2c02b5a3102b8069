// SPDX-License-Identifier: MIT
/*
 * stack_counts.c - pages by stack.
 *
 * Counts from the records what inc_stack_record_count() and dec_stack_record_count() of
 * mm/page_owner.c keep up to date.
 */
#include <stdlib.h>

#include "base/hash.h"
#include "base/vector.h"
#include "tables/stack_counts.h"

#define NR_HEADS 128 /* read in one go */

/* The count of a stack, which is added if it is new; NULL: no memory. */
static struct stack_count *count_of(struct stack_counts *counts, u32 handle)
{
	u32 hash = hash_u64(handle, 0);

	hash_for_each_possible (&counts->numbers, number, hash)
		if (counts->stacks[number].handle == handle)
			return &counts->stacks[number];
	if (!hash_table_reserve(&counts->numbers) ||
	    !vector_reserve(counts->stacks, counts->nr, &counts->room))
		return NULL;
	hash_table_insert(&counts->numbers, hash, counts->nr);
	counts->stacks[counts->nr] =
		(struct stack_count){.handle = handle, .first_ts_nsec = UINT64_MAX};
	return &counts->stacks[counts->nr++];
}

bool count_stacks(const struct table *table, bool early, struct stack_counts *counts)
{
	u64 mapped = table->start, at = table->start;
	struct stack_count *count = NULL;
	struct head heads[NR_HEADS];
	u32 nr;

	while ((nr = table->ops->heads(table, &at, table->end, heads, NR_HEADS))) {
		for (const struct head *head = heads; head < heads + nr; head++) {
			if (!early && head->state & PAGE_EXT_OWNER_EARLY)
				continue;
			if (!count || count->handle != head->handle) {
				count = count_of(counts, head->handle);
				if (!count)
					return false;
			}
			count->nr_base_pages += 1ULL << (head->order & 63);
			if (head->ts_nsec < count->first_ts_nsec)
				count->first_ts_nsec = head->ts_nsec;
		}
		unmap_behind(table, &mapped, at);
	}
	return true;
}

void stack_counts_free(struct stack_counts *counts)
{
	free(counts->stacks);
	hash_table_free(&counts->numbers);
}
