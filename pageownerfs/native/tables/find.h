/* SPDX-License-Identifier: MIT */
/* Going over the records of a table, those that a filter lets through. */
#ifndef PAGEOWNERFS_FIND_H
#define PAGEOWNERFS_FIND_H

#include "tables/table.h"

/* What is wanted: the filters of one open page_owner. Zeroes: all. */
#define FILTER_PIDS 16
#define FILTER_NODES 1024
struct record_filter {
	bool by_nid, by_process;
	u32 nr_pids, nr_tgids;
	s32 pids[FILTER_PIDS], tgids[FILTER_PIDS];
	u64 nids[FILTER_NODES / 64];
};

struct cursor {
	const struct table *table;
	u64 at;			 /* how far the search for the next record has come */
	u64 mapped;		 /* see unmap_behind() */
	struct lookahead *ahead; /* NULL: not needed yet */
};

void cursor_init(struct cursor *cursor, const struct table *table);
void cursor_free(struct cursor *cursor);
/*
 * What was looked up too long ago is looked up again. Once per call is enough: none takes longer
 * over it.
 */
void cursor_forget_old(struct cursor *cursor);
/*
 * The next record from cursor->at on, which moves to it: 1, 0 at the end, -1: no memory. nr: of
 * pages to ask for, if need be.
 */
int next_record(struct cursor *cursor, const struct record_filter *filter, struct record *record,
		u32 nr);

struct heads {
	u64 *pfns;
	u32 nr, room;
};

/* PFNs of allocated blocks from a PFN on, max of them; early: early ones, too. False: no memory. */
bool find_heads(const struct table *table, u64 pfn, u64 max, bool early, struct heads *heads);

/* Past a record. */
static inline void cursor_move(struct cursor *cursor, const struct record *record)
{
	cursor->at = next_place(cursor->table, record);
	unmap_behind(cursor->table, &cursor->mapped, cursor->at);
}

#endif
