/* SPDX-License-Identifier: MIT */
/* How many pages each stack holds: page_owner_stacks for tables that don't keep these counts. */
#ifndef PAGEOWNERFS_STACK_COUNTS_H
#define PAGEOWNERFS_STACK_COUNTS_H

#include "base/hash_table.h"
#include "tables/table.h"

struct stack_count {
	u32 handle;
	u64 nr_base_pages;
	u64 first_ts_nsec; /* of its oldest page */
};

/* Starts zeroed. */
struct stack_counts {
	struct stack_count *stacks; /* in the order in which they were found */
	struct hash_table numbers;
	u32 nr, room;
};

/* One pass over the table; early: include early pages. False: no memory. */
bool count_stacks(const struct table *table, bool early, struct stack_counts *counts);
void stack_counts_free(struct stack_counts *counts);

#endif
