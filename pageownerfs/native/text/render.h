/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_RENDER_H
#define PAGEOWNERFS_RENDER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/page_scan.h"
#include "tables/record_list.h"

struct page_scanner; /* kernel_table.h */

/* What a reader knows already of pages that it will come to. */
struct lookahead {
	u64 asked_nsec;
	u32 nr, next;		  /* of pages, and of those behind the reader */
	u64 pfn[PAGE_SCAN_BATCH]; /* ascending */
	struct page_info info[PAGE_SCAN_BATCH];
};

/*
 * What is rendered: the records of one source, and what else is known per PFN. Or a record_list:
 * then what is a PFN here and for a reader's position is the number of a record, from 0 on.
 */
struct po_table {
	const struct record_list *list;	   /* NULL: a table by PFN */
	const struct page_owner *page_ext; /* of start_pfn */
	const char *flags;		   /* page->flags of start_pfn, each a u64 ... */
	size_t flags_stride;		   /* ... this far apart */
	/* struct page's word beside each, see pool.h; NULL: none */
	const char *words;
	const u8 *pageblock_flags; /* by pfn >> pageblock_order; NULL: the record says it */
	unsigned int pageblock_order;
	u64 start_pfn, end_pfn;
	const _Atomic u32 *gate; /* of the source: no record is there unless (*gate & gate_bit) */
	u32 gate_bit;
	/* stands for each early record; NULL: each speaks for itself */
	const struct page_owner *early;
	bool early_unknown; /* what their masks were, so 0 does not mean Unmovable */
	/*
	 * Fills info of pages whose flags are nowhere in memory, if it can; NULL: they are, and no
	 * memcg is known.
	 */
	void (*scan)(struct page_scanner *scanner, struct lookahead *ahead);
	struct page_scanner *scanner;
	bool no_drop;		/* see drop_behind(): a BPF map's page would not come back */
	u8 nid_shift, nid_bits; /* of the node in the flags */
};

static inline bool table_is_empty(const struct po_table *table)
{
	return !(atomic_load(table->gate) & table->gate_bit);
}

/* The texts that records are joined from; the same numbers as TEXT_* in Python. */
enum text_kind {
	TEXT_GFP,
	TEXT_FLAGS,
	TEXT_STACK,
	TEXT_MIGRATE_REASON,
	TEXT_MIGRATETYPE,
	TEXT_MEMCG, /* whole lines, others are words; but for TEXT_STACK */
	NR_TEXT_KINDS
};

/* Insert-only, read without a lock. Replaced by an empty one when full. */
struct text_cache;
struct text_cache *text_cache_new(void);
struct text_cache *text_cache_get(struct text_cache *cache);
void text_cache_put(struct text_cache *cache);
bool text_cache_full(const struct text_cache *cache);
bool text_cache_add(struct text_cache *cache, enum text_kind kind, u64 value, const char *text,
		    size_t size);

/* A text that is not in the cache yet: add it and call again. */
struct text_miss {
	enum text_kind kind;
	u64 value;
};

/* What a reader wants to see: page_owner's filters and print modes of one open file. */
enum print_mode { PRINT_STACK, PRINT_HANDLE, PRINT_STACK_HANDLE };
#define FILTER_PIDS 16
#define FILTER_NODES 1024
struct record_filter {
	enum print_mode mode;
	bool by_nid, by_process;
	u32 nr_pids, nr_tgids;
	s32 pids[FILTER_PIDS], tgids[FILTER_PIDS];
	u64 nids[FILTER_NODES / 64];
};

struct po_reader {
	const struct po_table *table;
	struct record_filter filter;
	u8 fields; /* TEXT_*: what to print; 0: as the record was printed, or 6.12 */
	/* where the next record goes, and how far the search for it has come, */
	u64 pos_offset, pos_pfn;
	/* which began here: behind the record before, whatever lies between */
	u64 behind_pfn;
	u64 record_offset;  /* of the record in record[], */
	size_t record_size; /* of which a reader may have seen a part; 0: none */
	size_t record_room;
	char *record;
	u64 read_end; /* of the last read: one that begins elsewhere comes after a seek */
	u64 dropped_pfn;
	struct checkpoint *checkpoints; /* ascending places in the text, for readers that seek */
	/* next: the first that lies ahead of pos_offset */
	size_t nr_checkpoints, next_checkpoint, checkpoints_room;
	struct text_miss miss;
	struct lookahead *ahead; /* NULL: not needed yet */
};

#define RENDER_MISS (-1) /* reader->miss */
#define RENDER_NOMEM (-2)

void reader_init(struct po_reader *reader, const struct po_table *table);
void reader_free(struct po_reader *reader);
/*
 * read(2): bytes, 0 at the end, RENDER_MISS, RENDER_NOMEM. fill: as many bytes as there are;
 * otherwise the read ends with a record, if it can.
 */
long reader_read(struct po_reader *reader, const struct text_cache *cache, char *out, size_t size,
		 u64 offset, bool fill);
/*
 * Length of all records, from where the reader is: added to *total; 0, RENDER_MISS, RENDER_NOMEM.
 */
int render_size(struct po_reader *reader, const struct text_cache *cache, u64 *total);
/* Other filters from here on; what was read stays read. */
void reader_set_filter(struct po_reader *reader, const struct record_filter *filter);
/*
 * The first record at or after *pfn into the reader's record[]; its size, 0 at the end; *pfn moves
 * behind its first page.
 */
long render_record(struct po_reader *reader, const struct text_cache *cache, u64 *pfn);

/* The record at a place, whole; false: it is not allocated, and the record says what was before. */
bool read_page_owner(const struct po_table *table, u64 at, struct page_owner *copy);
/* What else is known of the page there; false: no memory. */
bool page_info_at(const struct po_table *table, u64 at, struct page_info *info);
/*
 * The first PFN from pfn on that may have a record to print: neither free nor a tail; end or
 * beyond: none.
 */
u64 next_head(const struct po_table *table, u64 pfn, u64 end);

struct record; /* record_text.h */
/*
 * The next record from pos_pfn on, with all but its texts: 1, 0 at the end, RENDER_NOMEM. nr: of
 * pages to ask for.
 */
int next_record_info(struct po_reader *reader, struct record *record, u32 nr);
/*
 * What was looked up too long ago is looked up again. Once per call is enough: none takes longer
 * over it.
 */
void forget_old(struct lookahead *ahead);

#define DROP_PFNS (1UL << 16) /* 4 MiB of page_ext */

void unmap_behind(const struct po_table *table, u64 *dropped_pfn, u64 pfn);

/*
 * Shared memory that was looked at counts as ours (RSS). Behind a reader of a large table, unmap it
 * again: the data stay where they are.
 */
static inline void drop_behind(const struct po_table *table, u64 *dropped_pfn, u64 pfn)
{
	if (pfn - *dropped_pfn >= DROP_PFNS) /* or it has gone back */
		unmap_behind(table, dropped_pfn, pfn);
}

#endif
