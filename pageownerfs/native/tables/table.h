/* SPDX-License-Identifier: MIT */
/*
 * A table of records, whoever keeps them.
 *
 * A place is where a record stands: in a table by page it is the PFN, and a block of pages has as
 * many places; in a list of records it is a number from 0 on, and a block has one.
 */
#ifndef PAGEOWNERFS_TABLE_H
#define PAGEOWNERFS_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/mmzone.h"
#include "base/page_scan.h"

/* A record, and what else is known of its block. Starts as zeroes, and is used for one by one. */
struct record {
	/* by table_ops.copy: */
	struct page_owner owner;
	u64 at, pfn;
	/* by table_ops.info: */
	u64 flags, memcg; /* as struct page_info */
	u16 nid;
	u8 page_mt, block_mt; /* migratetypes of the mask and of the pageblock */
	u8 fields;	      /* TEXT_*: what was printed of it; 0: it never was */
	/* of what was printed, see record_list.h: NULL if nothing was; */
	const struct record_info *printed;
	const struct verbatim *verbatim; /* NULL if the fields make it */
};

/* As much of a record as a pass over all of them takes. */
struct head {
	u64 pfn, ts_nsec;
	u32 handle;
	u8 order, state;
};

/* What a reader knows already of pages that it will come to. */
struct lookahead {
	u64 asked_nsec;
	u32 nr, next;		  /* of pages, and of those behind the reader */
	u64 pfn[PAGE_SCAN_BATCH]; /* ascending */
	struct page_info info[PAGE_SCAN_BATCH];
};

struct table;
struct mixed_range; /* mixed_blocks.h */

struct table_ops {
	/*
	 * The first place from at on, below end, that may have a record to show: neither free nor
	 * a tail page; end or beyond: none.
	 */
	u64 (*next)(const struct table *table, u64 at, u64 end);
	/*
	 * The owner there, whole, as it is shown. False: nobody's, and it says whose it was, as far
	 * as that is still known.
	 */
	bool (*copy)(const struct table *table, u64 at, struct record *record);
	/*
	 * What else is known of a record. Where that has to be asked for, nr pages are asked for
	 * together, and kept in *ahead for the next ones. False: no memory.
	 */
	bool (*info)(const struct table *table, struct record *record, struct lookahead **ahead,
		     u32 nr);
	/*
	 * The next records to show from *at on, below end, up to nr: how many there are, 0 at the
	 * end. *at moves behind them.
	 */
	u32 (*heads)(const struct table *table, u64 *at, u64 end, struct head *heads, u32 nr);
	/* The place of a page's record; table->end: it has none. */
	u64 (*find)(const struct table *table, u64 pfn);
	/* The first place with a page from this PFN on; without order among them, that number. */
	u64 (*seek)(const struct table *table, u64 pfn);
	/* Changes with the records; false: nothing tells. */
	bool (*version)(const struct table *table, u64 *version);
	/* See mixed_blocks.h. */
	bool (*mixed_blocks)(const struct table *table, const struct mixed_range *range,
			     u64 *counts);
	/* Unmap what a pass has looked at; NULL: it can't be, or need not. */
	void (*unmap)(const struct table *table, u64 start, u64 end);
};

struct table {
	const struct table_ops *ops;
	u64 start, end; /* places */
	unsigned int pageblock_order;
	bool by_page;		 /* a place is a page, or else a block */
	bool unordered;		 /* PFNs don't ascend: seek() takes numbers of records */
	bool early_unknown;	 /* masks of early pages: 0 does not mean Unmovable */
	const _Atomic u32 *gate; /* of the source: no record is there unless (*gate & gate_bit) */
	u32 gate_bit;
};

static inline bool table_is_empty(const struct table *table)
{
	return !(atomic_load(table->gate) & table->gate_bit);
}

static inline bool is_tail(const struct table *table, u64 at, unsigned int order)
{
	return at & ((1ULL << (order & 63)) - 1) && table->by_page;
}

/* Behind a block: its tail pages have no record to show. */
static inline u64 place_after(const struct table *table, u64 at, unsigned int order)
{
	return at + (order <= MAX_PAGE_ORDER && table->by_page ? 1ULL << order : 1);
}

static inline u64 next_place(const struct table *table, const struct record *record)
{
	return place_after(table, record->at, record->owner.order);
}

typedef u64 next_fn(const struct table *table, u64 at, u64 end);
typedef bool copy_fn(const struct table *table, u64 at, struct record *record);

/*
 * The next record to show, from *at on, without its info; *at moves to it, or to the end. What the
 * kernel's read_page_owner() skips is skipped: free pages, tail pages, pages without a stack.
 */
static __always_inline bool next_owner(const struct table *table, next_fn *next, copy_fn *copy,
				       u64 *at, u64 end, struct record *record)
{
	/* Most often it is the very one that is asked for. */
	for (u64 place = *at; place < end; place = next(table, place + 1, end)) {
		if (copy(table, place, record) && !is_tail(table, place, record->owner.order) &&
		    record->owner.handle) {
			*at = place;
			return true;
		}
	}
	*at = end;
	return false;
}

/* table_ops.heads, from the others: to be compiled for each table, since passes are long. */
static __always_inline u32 next_heads(const struct table *table, next_fn *next, copy_fn *copy,
				      u64 *at, u64 end, struct head *heads, u32 nr)
{
	struct record record;
	u32 found = 0;

	while (found < nr && next_owner(table, next, copy, at, end, &record)) {
		const struct page_owner *owner = &record.owner;

		heads[found++] = (struct head){.pfn = record.pfn,
					       .ts_nsec = owner->ts_nsec,
					       .handle = owner->handle,
					       .order = owner->order,
					       .state = owner->state};
		*at = next_place(table, &record);
	}
	return found;
}

#define UNMAP_PLACES (1UL << 16) /* 4 MiB of page_ext */

/*
 * Shared memory that was looked at counts as ours (RSS). Behind a reader of a large table, unmap it
 * again: the data stay where they are. *mapped: where that which was not unmapped yet begins.
 */
static inline void unmap_behind(const struct table *table, u64 *mapped, u64 at)
{
	if (at - *mapped < UNMAP_PLACES)
		return;
	if (table->ops->unmap && at > *mapped) /* or else the reader has gone back */
		table->ops->unmap(table, *mapped, at);
	*mapped = at;
}

#endif
