/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_PAGE_STATES_H
#define PAGEOWNERFS_PAGE_STATES_H

#include "tables/table.h"

/* Places by state: base pages, or in a list blocks. */
struct page_states {
	u64 allocated; /* and seen being allocated */
	u64 early;     /* allocated before anybody looked */
	u64 freed;     /* free, and seen being freed */
	u64 heads;     /* blocks that allocated are of */
};

/* One pass over the table. */
void count_page_states(const struct table *table, struct page_states *states);

#endif
