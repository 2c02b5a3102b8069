/* SPDX-License-Identifier: MIT */
/* Iterating over the records of a table that match a filter. */
#ifndef PAGEOWNERFS_FIND_H
#define PAGEOWNERFS_FIND_H

#include "tables/table.h"

/* The filters of one open page_owner. A zeroed filter matches all records. */
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
	u64 at;			 /* where to look for the next record */
	u64 mapped;		 /* see unmap_behind() */
	struct lookahead *ahead; /* NULL: not needed so far */
};

void cursor_init(struct cursor *cursor, const struct table *table);
void cursor_free(struct cursor *cursor);
/* Drop lookups that are too old. Once per call is enough, because no call lasts long. */
void cursor_forget_old(struct cursor *cursor);
/*
 * Find the next matching record from cursor->at on, and move cursor->at to it. 1, 0 at the end, -1:
 * no memory. nr: how many pages to look up together, if a lookup is needed.
 */
int next_record(struct cursor *cursor, const struct record_filter *filter, struct record *record,
		u32 nr);

struct heads {
	u64 *pfns;
	u32 nr, room;
};

/*
 * Collect the PFNs of up to max allocated blocks from a PFN on; early: include early ones. False:
 * no memory.
 */
bool find_heads(const struct table *table, u64 pfn, u64 max, bool early, struct heads *heads);

/* Move past a record. */
static inline void cursor_move(struct cursor *cursor, const struct record *record)
{
	cursor->at = next_place(cursor->table, record);
	unmap_behind(cursor->table, &cursor->mapped, cursor->at);
}

#endif
