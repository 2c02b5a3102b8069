/* SPDX-License-Identifier: MIT */
/* The header lines of groups, and their order. */
#ifndef PAGEOWNERFS_PAGE_OWNER_SORT_ORDER_H
#define PAGEOWNERFS_PAGE_OWNER_SORT_ORDER_H

#include "sort/page_owner_sort.h"

struct sort_key {
	enum sort_field field;
	int sign; /* 1 ascending, -1 descending */
};

/*
 * How to order groups: by the sort keys, then by the key of the groups, then by first appearance.
 */
struct sort_order {
	const struct sorter *sorter;
	const struct sort_key *keys;
	u32 nr_keys;
	bool ties_reversed;
};

/*
 * Enough for any header line: the longest mask; the fixed text, the numbers and a comm take less
 * than the rest.
 */
#define HEADER_MAX (TEXT_MASK_MAX + 256)

/* Fill in the numbers of all groups, in order; numbers must have room for them. */
void sorter_order(const struct sort_order *order, u32 *numbers);
/* Write the header line of a group, with its newline; returns its size. */
size_t sorter_header(const struct sorter *sorter, const struct sort_group *group, char *out);

#endif
