/* SPDX-License-Identifier: MIT */
/*
 * A table of records, whatever keeps them.
 *
 * A place is the position of a record. In a table by page, places are PFNs, and a block has one for
 * each of its pages. In a list of records, places are numbers from 0 up, and a block has one.
 */
#ifndef PAGEOWNERFS_TABLE_H
#define PAGEOWNERFS_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/mmzone.h"
#include "base/page_scan.h"

/*
 * A record and what else is known of its block. Starts zeroed, and is reused for one record after
 * another.
 */
struct record {
	/* filled in by table_ops.copy: */
	struct page_owner owner;
	u64 at, pfn;
	/* filled in by table_ops.info: */
	u64 flags, memcg; /* as in struct page_info */
	u16 nid;
	u8 page_mt, block_mt; /* migratetypes of the mask and of the pageblock */
	u8 fields;	      /* TEXT_*: the fields that were printed; 0: never printed */
	/* the printed text, see record_list.h; NULL if there is none */
	const struct record_info *printed;
	const struct verbatim *verbatim; /* NULL if the fields reproduce the text */
};

/* The part of a record that passes over all records need. */
struct head {
	u64 pfn, ts_nsec;
	u32 handle;
	u8 order, state;
};

/* What a reader already knows about pages that it has not reached yet. */
struct lookahead {
	u64 asked_nsec;
	u32 nr, next;		  /* number of pages, and of those the reader has passed */
	u64 pfn[PAGE_SCAN_BATCH]; /* ascending */
	struct page_info info[PAGE_SCAN_BATCH];
};

struct table;
struct mixed_range; /* mixed_blocks.h */

struct table_ops {
	/*
	 * The first place in [at, end) that may have a record to show: neither free nor a tail
	 * page. end or more: none.
	 */
	u64 (*next)(const struct table *table, u64 at, u64 end);
	/*
	 * Copy the record at a place as it is shown, never torn. False: the page is not allocated,
	 * and the record has what is still known of its last owner.
	 */
	bool (*copy)(const struct table *table, u64 at, struct record *record);
	/*
	 * Fill in the rest of a record. Where that has to be asked for, nr pages are asked for
	 * together and kept in *ahead for the next calls. False: no memory.
	 */
	bool (*info)(const struct table *table, struct record *record, struct lookahead **ahead,
		     u32 nr);
	/*
	 * Get up to nr of the next records to show in [*at, end). Returns how many there are, 0 at
	 * the end. *at moves past them.
	 */
	u32 (*heads)(const struct table *table, u64 *at, u64 end, struct head *heads, u32 nr);
	/* The place of a page's record; table->end if it has none. */
	u64 (*find)(const struct table *table, u64 pfn);
	/*
	 * The first place with a page at or after this PFN. In an unordered list, the place with
	 * this number.
	 */
	u64 (*seek)(const struct table *table, u64 pfn);
	/* *version changes when the records do; false: changes cannot be seen. */
	bool (*version)(const struct table *table, u64 *version);
	/* See mixed_blocks.h. */
	bool (*mixed_blocks)(const struct table *table, const struct mixed_range *range,
			     u64 *counts);
	/* Unmap memory that a pass has read; NULL: impossible or unnecessary. */
	void (*unmap)(const struct table *table, u64 start, u64 end);
};

struct table {
	const struct table_ops *ops;
	u64 start, end; /* places */
	unsigned int pageblock_order;
	bool by_page;	/* a place is a page, not a block */
	bool unordered; /* PFNs don't ascend: seek() takes record numbers */
	/* the masks of early pages are unknown: 0 does not mean Unmovable */
	bool early_unknown;
	const _Atomic u32 *gate; /* of the source: there are no records unless (*gate & gate_bit) */
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

/* The place after a block: its tail pages have no records to show. */
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
 * Find the next record to show from *at on, without its info, and move *at to it, or to the end.
 * Skips what read_page_owner() in the kernel skips: free pages, tail pages, pages without a stack.
 */
static __always_inline bool next_owner(const struct table *table, next_fn *next, copy_fn *copy,
				       u64 *at, u64 end, struct record *record)
{
	/* Usually the first one asked for is the one. */
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

/*
 * Implements table_ops.heads with the other operations. Passes are long, so each table compiles its
 * own copy.
 */
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
 * Shared memory that we have read counts as ours (RSS). Unmap it again behind the reader of a large
 * table; the data are not lost. *mapped: the start of what is still mapped.
 */
static inline void unmap_behind(const struct table *table, u64 *mapped, u64 at)
{
	if (at - *mapped < UNMAP_PLACES)
		return;
	if (table->ops->unmap && at > *mapped) /* otherwise the reader has gone back */
		table->ops->unmap(table, *mapped, at);
	*mapped = at;
}

#endif
