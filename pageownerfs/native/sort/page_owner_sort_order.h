/* SPDX-License-Identifier: MIT */
/* The header lines of groups, and their order. */
#ifndef PAGEOWNERFS_PAGE_OWNER_SORT_ORDER_H
#define PAGEOWNERFS_PAGE_OWNER_SORT_ORDER_H

#include "sort/page_owner_sort.h"

struct sort_key {
	enum sort_field field;
	int sign; /* 1 ascending, -1 descending */
};

/* An order of groups: by the keys; then as the key of the groups says, then as they came. */
struct sort_order {
	const struct sorter *sorter;
	const struct sort_key *keys;
	u32 nr_keys;
	bool ties_reversed;
};

/*
 * Room for any header line: the longest mask; what is fixed, the numbers and a comm take less than
 * the rest.
 */
#define HEADER_MAX (TEXT_MASK_MAX + 256)

/* Numbers of the groups, in order; numbers has room for all. */
void sorter_order(const struct sort_order *order, u32 *numbers);
/* The header line of a group, with its newline; its size. */
size_t sorter_header(const struct sorter *sorter, const struct sort_group *group, char *out);

#endif
