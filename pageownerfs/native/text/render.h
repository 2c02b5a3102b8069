/* SPDX-License-Identifier: MIT */
/* Reading a table as text: the implementation of read(2) on page_owner. */
#ifndef PAGEOWNERFS_RENDER_H
#define PAGEOWNERFS_RENDER_H

#include "tables/find.h"
#include "text/flags_text.h"
#include "text/text_cache.h"

/* A text that is missing from the cache: add it and call again. */
struct text_miss {
	enum text_kind kind;
	u64 value;
};

/* The print modes of page_owner. */
enum print_mode { PRINT_STACK, PRINT_HANDLE, PRINT_STACK_HANDLE };

/* The state of one open file. */
struct reader {
	struct cursor cursor; /* where the search for the next record has got to */
	u64 behind;	      /* where that search began: after the previous record */
	u64 pos_offset;	      /* the offset of that record in the text */
	struct record_filter filter;
	enum print_mode mode;
	/* TEXT_*: the fields to print; 0: as the record was printed, or as 6.12 prints it */
	u8 fields;
	const struct flags_layout *layout;
	u64 record_offset;  /* of the record kept in record[] */
	size_t record_size; /* 0: none. A reader may have seen part of the record. */
	size_t record_room;
	char *record;
	u64 read_end; /* the end of the last read: a read from elsewhere follows a seek */
	/* positions in the text, ascending, for readers that seek */
	struct checkpoint *checkpoints;
	/* next_checkpoint: the first one after pos_offset */
	u32 nr_checkpoints, next_checkpoint, checkpoints_room;
	struct text_miss miss;
	char flag_fields[FLAG_FIELDS_MAX]; /* of the last record */
};

#define RENDER_MISS (-1) /* see reader->miss */
#define RENDER_NOMEM (-2)

void reader_init(struct reader *reader, const struct table *table,
		 const struct flags_layout *layout);
void reader_free(struct reader *reader);
/*
 * Implements read(2). Returns the number of bytes, 0 at the end, RENDER_MISS or RENDER_NOMEM. fill:
 * return as many bytes as there are; otherwise the read ends at the end of a record if possible.
 */
long reader_read(struct reader *reader, const struct text_cache *cache, char *out, size_t size,
		 u64 offset, bool fill);
/*
 * Add the length of all records from the reader's position on to *total. 0, RENDER_MISS or
 * RENDER_NOMEM.
 */
int render_size(struct reader *reader, const struct text_cache *cache, u64 *total);
/* Change the filter and mode from here on; what has been read is not affected. */
void reader_set_filter(struct reader *reader, const struct record_filter *filter,
		       enum print_mode mode);
/*
 * Render the first record at or after *pfn into the reader's record[]. Returns its size, 0 at the
 * end; *pfn moves past its first page.
 */
long render_record(struct reader *reader, const struct text_cache *cache, u64 *pfn);

#endif
