/* SPDX-License-Identifier: MIT */
/*
 * How many pages each stack holds: page_owner_stacks, for tables that don't keep count themselves.
 */
#ifndef PAGEOWNERFS_STACK_COUNTS_H
#define PAGEOWNERFS_STACK_COUNTS_H

#include "text/render.h"

struct stack_count {
	u32 handle; /* 0: an empty slot */
	u64 nr_base_pages;
	u64 first_ts_nsec; /* the oldest of its pages */
};

struct stack_counts {
	struct stack_count *slots;
	u32 nr, nr_slots;
};

/* One pass over the table; early: early pages, too. False: no memory. Free the slots. */
bool count_stacks(const struct po_table *table, bool early, struct stack_counts *counts);

#endif
