/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_PAGE_STATES_H
#define PAGEOWNERFS_PAGE_STATES_H

#include "tables/table.h"

/* Number of places in each state: base pages or, in a list, blocks. */
struct page_states {
	u64 allocated; /* and the allocation was seen */
	u64 early;     /* allocated before tracking began */
	u64 freed;     /* free, and the free was seen */
	u64 heads;     /* number of blocks that the allocated ones form */
};

/* One pass over the table. */
void count_page_states(const struct table *table, struct page_states *states);

#endif
