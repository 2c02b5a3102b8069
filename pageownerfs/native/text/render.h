/* SPDX-License-Identifier: MIT */
/* Reading a table as text: what read(2) of page_owner gives. */
#ifndef PAGEOWNERFS_RENDER_H
#define PAGEOWNERFS_RENDER_H

#include "tables/find.h"
#include "text/flags_text.h"
#include "text/text_cache.h"

/* A text that is not in the cache yet: add it and call again. */
struct text_miss {
	enum text_kind kind;
	u64 value;
};

/* page_owner's print modes. */
enum print_mode { PRINT_STACK, PRINT_HANDLE, PRINT_STACK_HANDLE };

/* One open file. */
struct reader {
	struct cursor cursor; /* where the search for the next record has come, */
	u64 behind;	      /* which began here: behind the record before */
	u64 pos_offset;	      /* where that record goes */
	struct record_filter filter;
	enum print_mode mode;
	u8 fields; /* TEXT_*: what to print; 0: as the record was printed, or 6.12 */
	const struct flags_layout *layout;
	u64 record_offset;  /* of the record in record[], */
	size_t record_size; /* of which a reader may have seen a part; 0: none */
	size_t record_room;
	char *record;
	u64 read_end; /* of the last read: one that begins elsewhere comes after a seek */
	struct checkpoint *checkpoints; /* ascending places in the text, for readers that seek */
	/* next: the first that lies ahead of pos_offset */
	u32 nr_checkpoints, next_checkpoint, checkpoints_room;
	struct text_miss miss;
	char flag_fields[FLAG_FIELDS_MAX]; /* of the last record */
};

#define RENDER_MISS (-1) /* reader->miss */
#define RENDER_NOMEM (-2)

void reader_init(struct reader *reader, const struct table *table,
		 const struct flags_layout *layout);
void reader_free(struct reader *reader);
/*
 * read(2): bytes, 0 at the end, RENDER_MISS, RENDER_NOMEM. fill: as many bytes as there are;
 * otherwise the read ends with a record, if it can.
 */
long reader_read(struct reader *reader, const struct text_cache *cache, char *out, size_t size,
		 u64 offset, bool fill);
/*
 * Length of all records, from where the reader is: added to *total; 0, RENDER_MISS, RENDER_NOMEM.
 */
int render_size(struct reader *reader, const struct text_cache *cache, u64 *total);
/* Others from here on; what was read stays read. */
void reader_set_filter(struct reader *reader, const struct record_filter *filter,
		       enum print_mode mode);
/*
 * The first record at or after *pfn into the reader's record[]; its size, 0 at the end; *pfn moves
 * behind its first page.
 */
long render_record(struct reader *reader, const struct text_cache *cache, u64 *pfn);

#endif
