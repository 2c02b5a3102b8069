// SPDX-License-Identifier: MIT
/*
 * render.c - records to text, in the format of print_page_owner() of 6.12.
 *
 * This file knows no names: it joins numbers with texts from a cache (text_cache.c). It runs
 * without the GIL. When a text is missing it returns, and is called again once Python has added the
 * text.
 */
#include <stdlib.h>
#include <string.h>

#include "base/vector.h"
#include "text/record_text.h"
#include "text/render.h"

/* a read of at most this size returns one record, as in the kernel */
#define ONE_RECORD_BYTES 4096
#define CHECKPOINT_BYTES (256UL << 10) /* of text between two checkpoints */

struct checkpoint {
	u64 offset, place; /* place: where to search for the record at this offset */
};

/* How many pages to look up for this many bytes of text; a record has about 300 bytes. */
static inline u32 nr_ahead(u64 bytes)
{
	u64 nr = 8 + bytes / 256;

	return nr < PAGE_SCAN_BATCH ? (u32)nr : PAGE_SCAN_BATCH;
}

/*
 * Find the text of a value. *last is the text of the same kind from the previous record: usually it
 * is the one.
 */
static inline bool want(const struct text **last, const struct text_cache *cache,
			enum text_kind kind, u64 value, struct text_miss *miss)
{
	if (likely(*last && (*last)->value == value))
		return true;
	*last = text_find(cache, kind, value);
	if (likely(*last))
		return true;
	*miss = (struct text_miss){.kind = kind, .value = value};
	return false;
}

/* Like want(), for flags, which are joined from parts. */
static inline bool want_flags(struct reader *reader, const struct text_cache *cache,
			      struct record_text *text)
{
	const struct record *record = &text->record;
	struct flags_text *flags = &text->flags;

	if (record->printed) {
		*flags = printed_flags(record->printed);
		text->flag_names = NULL;
		return true;
	}
	if (likely(text->flag_names && flags->word == record->flags))
		return true;
	if (!want(&text->flag_names, cache, TEXT_FLAGS, record->flags & reader->layout->names_mask,
		  &reader->miss))
		return false;
	*flags = (struct flags_text){
		.word = record->flags,
		.names = text->flag_names->data,
		.fields = reader->flag_fields,
		.names_size = text->flag_names->size,
		.fields_size = put_flag_fields(reader->layout, record->flags, reader->flag_fields)};
	return true;
}

/* Find the texts for a record of next_record(). 0 or RENDER_MISS. */
static inline int find_texts(struct reader *reader, const struct text_cache *cache,
			     struct record_text *text)
{
	const struct record *record = &text->record;
	const struct page_owner *owner = &record->owner;
	struct text_miss *miss = &reader->miss;

	text->shows_handle = reader->mode != PRINT_STACK;
	text->verbatim = reader->fields || text->shows_handle ? NULL : record->verbatim;
	if (unlikely(text->verbatim))
		return 0;
	text->fields = reader->fields	? reader->fields
		       : record->fields ? record->fields
					: TEXT_FIELDS_6_12;
	text->block = record->pfn >> reader->cursor.table->pageblock_order;
	text->comm_size = strnlen(owner->comm, TASK_COMM_LEN);
	if (!want(&text->gfp, cache, TEXT_GFP, owner->gfp_mask, miss) ||
	    !want_flags(reader, cache, text) ||
	    !want(&text->page_mt, cache, TEXT_MIGRATETYPE, record->page_mt, miss) ||
	    !want(&text->block_mt, cache, TEXT_MIGRATETYPE, record->block_mt, miss))
		return RENDER_MISS;
	if (unlikely(reader->mode == PRINT_HANDLE))
		text->stack = NULL;
	else if (!want(&text->stack, cache, TEXT_STACK, owner->handle, miss))
		return RENDER_MISS;
	if (likely(owner->last_migrate_reason < 0))
		text->reason = NULL;
	else if (!want(&text->reason, cache, TEXT_MIGRATE_REASON, (u64)owner->last_migrate_reason,
		       miss))
		return RENDER_MISS;
	if (record->memcg == 0)
		text->memcg = NULL;
	else if (!want(&text->memcg, cache, TEXT_MEMCG, record->memcg, miss))
		return RENDER_MISS;
	/* The lines of a dump saved with handles already have them. */
	if (text->shows_handle && text->memcg && text->memcg->size > sizeof(handle_line) &&
	    !memcmp(text->memcg->data, handle_line, sizeof(handle_line) - 1))
		text->shows_handle = false;
	return 0;
}

/*
 * The next record from the reader's position on, with its texts: 1, 0 at the end, RENDER_MISS,
 * RENDER_NOMEM. nr: how many pages to look up together, if a lookup is needed.
 */
static inline int next_text(struct reader *reader, const struct text_cache *cache,
			    struct record_text *text, u32 nr)
{
	int found = next_record(&reader->cursor, &reader->filter, &text->record, nr);

	if (unlikely(found < 0))
		return RENDER_NOMEM;
	if (found > 0 && unlikely(find_texts(reader, cache, text)))
		return RENDER_MISS;
	return found;
}

void reader_init(struct reader *reader, const struct table *table,
		 const struct flags_layout *layout)
{
	memset(reader, 0, sizeof(*reader));
	cursor_init(&reader->cursor, table);
	reader->behind = table->start;
	reader->layout = layout;
}

void reader_free(struct reader *reader)
{
	cursor_free(&reader->cursor);
	free(reader->record);
	free(reader->checkpoints);
}

/*
 * Record the reader's position as a checkpoint, and drop those that no longer match the text
 * because it has changed.
 */
static void note_checkpoint(struct reader *reader)
{
	u32 nr = reader->nr_checkpoints, next = reader->next_checkpoint;

	if (next < nr) {
		const struct checkpoint *known = &reader->checkpoints[next];

		if (known->offset > reader->pos_offset)
			return;
		if (known->offset == reader->pos_offset && known->place == reader->behind) {
			reader->next_checkpoint = next + 1;
			return;
		}
		reader->nr_checkpoints = nr = next;
	}
	if (nr && reader->pos_offset < reader->checkpoints[nr - 1].offset + CHECKPOINT_BYTES)
		return;
	if (!vector_reserve(reader->checkpoints, nr, &reader->checkpoints_room))
		return; /* seeking will just take longer */
	reader->checkpoints[nr] =
		(struct checkpoint){.offset = reader->pos_offset, .place = reader->behind};
	reader->nr_checkpoints = reader->next_checkpoint = nr + 1;
}

/* The text ends here for now. */
static void note_end(struct reader *reader)
{
	while (reader->nr_checkpoints &&
	       reader->checkpoints[reader->nr_checkpoints - 1].offset > reader->pos_offset)
		reader->nr_checkpoints--;
	if (reader->next_checkpoint > reader->nr_checkpoints)
		reader->next_checkpoint = reader->nr_checkpoints;
	reader->cursor.at = reader->behind; /* records may appear here later */
}

/* Keep the record in record[]: it is returned in parts, or the caller wants just one. */
static long keep_record(struct reader *reader, const struct record_text *text, size_t size)
{
	if (size > reader->record_room) {
		char *more = realloc(reader->record, size + 1024);

		if (!more)
			return RENDER_NOMEM;
		reader->record = more;
		reader->record_room = size + 1024;
	}
	put_record(reader->record, text, &(struct previous){0});
	reader->record_offset = reader->pos_offset;
	reader->record_size = size;
	return (long)size;
}

void reader_set_filter(struct reader *reader, const struct record_filter *filter,
		       enum print_mode mode)
{
	reader->filter = *filter;
	reader->mode = mode;
	reader->record_size = 0;
	/* The new filter may match what the old one left out. */
	reader->cursor.at = reader->behind;
	/* Offsets continue from here, as if the new filter had produced the text up to here. */
	reader->nr_checkpoints = reader->next_checkpoint = 0;
	if (reader->pos_offset)
		note_checkpoint(reader);
}

long render_record(struct reader *reader, const struct text_cache *cache, u64 *pfn)
{
	const struct table *table = reader->cursor.table;
	struct record_text text = {0};
	long size;
	int found;

	if (table_is_empty(table))
		return 0;
	reader->cursor.at = table->ops->seek(table, *pfn);
	found = next_text(reader, cache, &text, 1);
	if (found <= 0)
		return found;
	size = keep_record(reader, &text, record_size(&text));
	if (size <= 0)
		return size;
	*pfn = (table->unordered ? text.record.at : text.record.pfn) + 1;
	return size;
}

static void advance(struct reader *reader, const struct record_text *text, size_t size)
{
	note_checkpoint(reader);
	reader->pos_offset += size;
	cursor_move(&reader->cursor, &text->record);
	reader->behind = reader->cursor.at;
}

/* Return the first room bytes of a record; the next read gets the rest. */
static long put_part(struct reader *reader, const struct record_text *text, char *out, size_t room)
{
	size_t size = record_size(text);

	if (keep_record(reader, text, size) < 0)
		return RENDER_NOMEM;
	advance(reader, text, size);
	size = size < room ? size : room;
	memcpy(out, reader->record, size);
	return (long)size;
}

/* Return as many records as fit; the last one only partly if necessary. */
static long read_records(struct reader *reader, const struct text_cache *cache, char *out,
			 size_t size, bool fill)
{
	bool one = !fill && size <= ONE_RECORD_BYTES;
	struct previous previous = {0};
	struct record_text text = {0};
	char *start = out;
	long part;

	while (size > (size_t)(out - start)) {
		size_t room = size - (size_t)(out - start);
		int found = next_text(reader, cache, &text, nr_ahead(room));

		if (unlikely(found == 0))
			note_end(reader);
		if (unlikely(found <= 0))
			return out > start ? out - start : found;
		if (likely(record_size_max(&text) <= room && !one)) {
			char *end = put_record(out, &text, &previous);

			advance(reader, &text, (size_t)(end - out));
			out = end;
			continue;
		}
		if (!fill && out > start && record_size(&text) > room)
			break;
		part = put_part(reader, &text, out, room);
		if (part < 0)
			return out > start ? out - start : part;
		out += part;
		if (one)
			break;
	}
	return out - start;
}

/*
 * Move to the start of the record that contains offset. 0, RENDER_MISS, RENDER_NOMEM; pos_offset <
 * offset: beyond the end.
 */
static int seek(struct reader *reader, const struct text_cache *cache, u64 offset)
{
	struct checkpoint from = {.offset = 0, .place = reader->cursor.table->start};
	struct record_text text = {0};
	u32 low = 0, high;

	/*
	 * A seek to before the place where the filter was set reads the text from the start with
	 * the new filter, which gives all offsets a new meaning.
	 */
	if (reader->nr_checkpoints && offset < reader->checkpoints[0].offset)
		reader->nr_checkpoints = reader->next_checkpoint = 0;
	for (high = reader->nr_checkpoints; low < high;) {
		u32 middle = (low + high) / 2;

		if (reader->checkpoints[middle].offset <= offset) {
			from = reader->checkpoints[middle];
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	/* If a miss interrupted an earlier call, continue there if it is on the way. */
	if (reader->pos_offset > offset || reader->pos_offset < from.offset) {
		reader->pos_offset = from.offset;
		reader->cursor.at = reader->cursor.mapped = reader->behind = from.place;
		reader->next_checkpoint = low;
	}
	reader->record_size = 0;
	while (reader->pos_offset < offset) {
		int found = next_text(reader, cache, &text, nr_ahead(offset - reader->pos_offset));
		size_t size;

		if (found == 0)
			note_end(reader);
		if (found <= 0)
			return found;
		size = record_size(&text);
		if (reader->pos_offset + size > offset) {
			if (keep_record(reader, &text, size) < 0)
				return RENDER_NOMEM;
			advance(reader, &text, size);
			return 0;
		}
		advance(reader, &text, size);
	}
	return 0;
}

static size_t read_rest_of_record(struct reader *reader, char *out, size_t size, u64 offset)
{
	size_t skip = (size_t)(offset - reader->record_offset);
	size_t rest = reader->record_size - skip;

	rest = rest < size ? rest : size;
	memcpy(out, reader->record + skip, rest);
	return rest;
}

/*
 * Is offset inside the kept record? Not at its start: a reader that asks for the start again has
 * gone back, and gets what is there now.
 */
static bool in_record(const struct reader *reader, u64 offset)
{
	return reader->record_size && offset > reader->record_offset &&
	       offset < reader->record_offset + reader->record_size;
}

long reader_read(struct reader *reader, const struct text_cache *cache, char *out, size_t size,
		 u64 offset, bool fill)
{
	size_t done = 0;
	long more;

	if (table_is_empty(reader->cursor.table) || size == 0)
		return 0;
	cursor_forget_old(&reader->cursor);
	if (!in_record(reader, offset) && offset != reader->pos_offset) {
		int error = seek(reader, cache, offset);

		if (error)
			return error;
	}
	if (in_record(reader, offset)) {
		done = read_rest_of_record(reader, out, size, offset);
		if (!fill || done == size)
			return (long)done;
	}
	if (offset + done != reader->pos_offset)
		return (long)done; /* beyond the end */
	more = read_records(reader, cache, out + done, size - done, fill);
	return more < 0 && done == 0 ? more : (long)done + (more < 0 ? 0 : more);
}

int render_size(struct reader *reader, const struct text_cache *cache, u64 *total)
{
	struct record_text text = {0};
	int found;

	if (table_is_empty(reader->cursor.table))
		return 0;
	cursor_forget_old(&reader->cursor);
	while ((found = next_text(reader, cache, &text, PAGE_SCAN_BATCH)) != 0) {
		if (unlikely(found < 0))
			return found;
		*total += record_size(&text);
		cursor_move(&reader->cursor, &text.record);
	}
	return 0;
}
