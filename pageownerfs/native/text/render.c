// SPDX-License-Identifier: MIT
/*
 * render.c - records to text, in the format of 6.12's print_page_owner().
 *
 * Knows no name: it joins numbers with texts that it finds in a cache (text_cache.c). Runs without
 * the GIL; a text that is missing makes it return, to be called again once Python has added it.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "text/record_text.h"

/* a read of no more than this gets one record, as in the kernel */
#define ONE_RECORD_BYTES 4096
#define CHECKPOINT_BYTES (256UL << 10) /* of text, between two */

struct checkpoint {
	u64 offset, pfn; /* pfn: where the search for the record there begins */
};

/* How many pages to ask for, for so many bytes of text: a record has 300 or so. */
static inline u32 nr_ahead(u64 bytes)
{
	u64 nr = 8 + bytes / 256;

	return nr < PAGE_SCAN_BATCH ? (u32)nr : PAGE_SCAN_BATCH;
}

/*
 * The text of a value. last is where the record before has left its text of this kind: mostly it is
 * the same one.
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

/* The texts of what next_record_info() has found: 0, RENDER_MISS. */
static inline int find_texts(struct po_reader *reader, const struct text_cache *cache,
			     struct record *record)
{
	const struct page_owner *owner = &record->owner;
	struct text_miss *miss = &reader->miss;

	record->verbatim = NULL;
	record->shows_handle = reader->filter.mode != PRINT_STACK;
	if (unlikely(owner->state & PAGE_EXT_OWNER_VERBATIM) && reader->table->list &&
	    !reader->fields && !record->shows_handle) {
		record->verbatim = record_list_text(reader->table->list, record->at);
		if (record->verbatim)
			return 0;
	}
	record->comm_size = (unsigned int)strnlen(owner->comm, TASK_COMM_LEN);
	if (!want(&record->gfp, cache, TEXT_GFP, owner->gfp_mask, miss) ||
	    !want(&record->flags, cache, TEXT_FLAGS, record->flags_word, miss) ||
	    !want(&record->page_mt, cache, TEXT_MIGRATETYPE, record->page_mt_number, miss) ||
	    !want(&record->block_mt, cache, TEXT_MIGRATETYPE, record->block_mt_number, miss))
		return RENDER_MISS;
	if (unlikely(reader->filter.mode == PRINT_HANDLE))
		record->stack = NULL;
	else if (!want(&record->stack, cache, TEXT_STACK, owner->handle, miss))
		return RENDER_MISS;
	if (likely(owner->last_migrate_reason < 0))
		record->reason = NULL;
	else if (!want(&record->reason, cache, TEXT_MIGRATE_REASON, (u64)owner->last_migrate_reason,
		       miss))
		return RENDER_MISS;
	if (record->memcg_number == 0)
		record->memcg = NULL;
	else if (!want(&record->memcg, cache, TEXT_MEMCG, record->memcg_number, miss))
		return RENDER_MISS;
	/* A dump that was made with handles has them among these lines. */
	if (record->shows_handle && record->memcg && record->memcg->size > sizeof(handle_line) &&
	    !memcmp(record->memcg->data, handle_line, sizeof(handle_line) - 1))
		record->shows_handle = false;
	return 0;
}

/*
 * The next record from pos_pfn on: 1, 0 at the end, RENDER_MISS, RENDER_NOMEM. nr: of pages to ask
 * for, if need be.
 */
static inline int next_record(struct po_reader *reader, const struct text_cache *cache,
			      struct record *record, u32 nr)
{
	int found = next_record_info(reader, record, nr);

	if (found > 0 && unlikely(find_texts(reader, cache, record)))
		return RENDER_MISS;
	return found;
}

void unmap_behind(const struct po_table *table, u64 *dropped_pfn, u64 pfn)
{
	u64 first = *dropped_pfn - table->start_pfn, last = pfn - table->start_pfn;
	struct {
		const char *base;
		size_t stride;
	} parts[] = {{(const char *)table->page_ext, sizeof(struct page_owner)},
		     {table->flags, table->flags_stride}};

	if (table->no_drop || pfn < *dropped_pfn) {
		*dropped_pfn = pfn;
		return;
	}
	for (int i = 0; i < 2; i++) {
		uintptr_t start = ((uintptr_t)parts[i].base + first * parts[i].stride) & ~4095UL;
		uintptr_t end = ((uintptr_t)parts[i].base + last * parts[i].stride) & ~4095UL;

		if (end > start)
			madvise((void *)start, end - start, MADV_DONTNEED);
	}
	*dropped_pfn = pfn;
}

void reader_init(struct po_reader *reader, const struct po_table *table)
{
	memset(reader, 0, sizeof(*reader));
	reader->table = table;
	reader->pos_pfn = reader->behind_pfn = reader->dropped_pfn = table->start_pfn;
}

void reader_free(struct po_reader *reader)
{
	free(reader->ahead);
	free(reader->record);
	free(reader->checkpoints);
}

/*
 * Note where the reader is. What was noted of text that has become another one since is forgotten.
 */
static void note_checkpoint(struct po_reader *reader)
{
	size_t nr = reader->nr_checkpoints, next = reader->next_checkpoint;

	if (next < nr) {
		const struct checkpoint *known = &reader->checkpoints[next];

		if (known->offset > reader->pos_offset)
			return;
		if (known->offset == reader->pos_offset && known->pfn == reader->behind_pfn) {
			reader->next_checkpoint = next + 1;
			return;
		}
		reader->nr_checkpoints = nr = next;
	}
	if (nr && reader->pos_offset < reader->checkpoints[nr - 1].offset + CHECKPOINT_BYTES)
		return;
	if (nr == reader->checkpoints_room) {
		size_t room = nr ? nr * 2 : 64;
		struct checkpoint *more = realloc(reader->checkpoints, room * sizeof(*more));

		if (!more)
			return; /* seeking will take longer */
		reader->checkpoints = more;
		reader->checkpoints_room = room;
	}
	reader->checkpoints[nr] =
		(struct checkpoint){.offset = reader->pos_offset, .pfn = reader->behind_pfn};
	reader->nr_checkpoints = reader->next_checkpoint = nr + 1;
}

/* The text ends here, for now. */
static void note_end(struct po_reader *reader)
{
	while (reader->nr_checkpoints &&
	       reader->checkpoints[reader->nr_checkpoints - 1].offset > reader->pos_offset)
		reader->nr_checkpoints--;
	if (reader->next_checkpoint > reader->nr_checkpoints)
		reader->next_checkpoint = reader->nr_checkpoints;
	reader->pos_pfn = reader->behind_pfn; /* something may come to be there */
}

/* The record goes to record[]: it is handed out in parts, or the caller wants just one. */
static long keep_record(struct po_reader *reader, const struct record *record, size_t size)
{
	if (size > reader->record_room) {
		char *more = realloc(reader->record, size + 1024);

		if (!more)
			return RENDER_NOMEM;
		reader->record = more;
		reader->record_room = size + 1024;
	}
	put_record(reader->record, record, &(struct previous){0});
	reader->record_offset = reader->pos_offset;
	reader->record_size = size;
	return (long)size;
}

void reader_set_filter(struct po_reader *reader, const struct record_filter *filter)
{
	reader->filter = *filter;
	reader->record_size = 0;
	/* What the filter before has left out may be wanted now. */
	reader->pos_pfn = reader->behind_pfn;
	/*
	 * Offsets are those of the text from now on, as if it had always been what it is from here.
	 */
	reader->nr_checkpoints = reader->next_checkpoint = 0;
	if (reader->pos_offset)
		note_checkpoint(reader);
}

long render_record(struct po_reader *reader, const struct text_cache *cache, u64 *pfn)
{
	const struct po_table *table = reader->table;
	struct record record = {0};
	long size;
	int found;

	reader->pos_pfn = table->list ? record_list_at(table->list, *pfn) : *pfn;
	if (reader->pos_pfn < table->start_pfn)
		reader->pos_pfn = table->start_pfn;
	if (table_is_empty(table))
		return 0;
	found = next_record(reader, cache, &record, 1);
	if (found <= 0)
		return found;
	size = keep_record(reader, &record, record_size(&record));
	if (size <= 0)
		return size;
	*pfn = (table->list && !table->list->ascending ? record.at : record.pfn) + 1;
	return size;
}

static void advance(struct po_reader *reader, const struct record *record, size_t size)
{
	note_checkpoint(reader);
	reader->pos_offset += size;
	reader->pos_pfn = reader->behind_pfn = next_pfn(reader->table, record);
	drop_behind(reader->table, &reader->dropped_pfn, reader->pos_pfn);
}

/* Hand out the first room bytes of a record; the rest of it is for the next read. */
static long put_part(struct po_reader *reader, const struct record *record, char *out, size_t room)
{
	size_t size = record_size(record);

	if (keep_record(reader, record, size) < 0)
		return RENDER_NOMEM;
	advance(reader, record, size);
	size = size < room ? size : room;
	memcpy(out, reader->record, size);
	return (long)size;
}

/* Records, as many as fit; the last one in part where it must be. */
static long read_records(struct po_reader *reader, const struct text_cache *cache, char *out,
			 size_t size, bool fill)
{
	bool one = !fill && size <= ONE_RECORD_BYTES;
	struct previous previous = {0};
	struct record record = {0};
	char *start = out;
	long part;

	while (size > (size_t)(out - start)) {
		size_t room = size - (size_t)(out - start);
		int found = next_record(reader, cache, &record, nr_ahead(room));

		if (unlikely(found == 0))
			note_end(reader);
		if (unlikely(found <= 0))
			return out > start ? out - start : found;
		if (likely(record_size_max(&record) <= room && !one)) {
			char *end = put_record(out, &record, &previous);

			advance(reader, &record, (size_t)(end - out));
			out = end;
			continue;
		}
		if (!fill && out > start && record_size(&record) > room)
			break;
		part = put_part(reader, &record, out, room);
		if (part < 0)
			return out > start ? out - start : part;
		out += part;
		if (one)
			break;
	}
	return out - start;
}

/*
 * Go to where the record around offset begins. 0, RENDER_MISS, RENDER_NOMEM; pos_offset < offset:
 * beyond the end.
 */
static int seek(struct po_reader *reader, const struct text_cache *cache, u64 offset)
{
	struct checkpoint from = {.offset = 0, .pfn = reader->table->start_pfn};
	struct record record = {0};
	size_t low = 0, high;

	/*
	 * Before where a filter was set the text is another one now, and so is what follows it from
	 * there.
	 */
	if (reader->nr_checkpoints && offset < reader->checkpoints[0].offset)
		reader->nr_checkpoints = reader->next_checkpoint = 0;
	for (high = reader->nr_checkpoints; low < high;) {
		size_t middle = (low + high) / 2;

		if (reader->checkpoints[middle].offset <= offset) {
			from = reader->checkpoints[middle];
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	/* Where a miss has interrupted us is better, if it is on the way. */
	if (reader->pos_offset > offset || reader->pos_offset < from.offset) {
		reader->pos_offset = from.offset;
		reader->pos_pfn = reader->behind_pfn = reader->dropped_pfn = from.pfn;
		reader->next_checkpoint = low;
	}
	reader->record_size = 0;
	while (reader->pos_offset < offset) {
		int found =
			next_record(reader, cache, &record, nr_ahead(offset - reader->pos_offset));
		size_t size;

		if (found == 0)
			note_end(reader);
		if (found <= 0)
			return found;
		size = record_size(&record);
		if (reader->pos_offset + size > offset) {
			if (keep_record(reader, &record, size) < 0)
				return RENDER_NOMEM;
			advance(reader, &record, size);
			return 0;
		}
		advance(reader, &record, size);
	}
	return 0;
}

static size_t read_rest_of_record(struct po_reader *reader, char *out, size_t size, u64 offset)
{
	size_t skip = (size_t)(offset - reader->record_offset);
	size_t rest = reader->record_size - skip;

	rest = rest < size ? rest : size;
	memcpy(out, reader->record + skip, rest);
	return rest;
}

/* Within it, since who asks for its beginning again has gone back, and gets what is there now. */
static bool in_record(const struct po_reader *reader, u64 offset)
{
	return reader->record_size && offset > reader->record_offset &&
	       offset < reader->record_offset + reader->record_size;
}

long reader_read(struct po_reader *reader, const struct text_cache *cache, char *out, size_t size,
		 u64 offset, bool fill)
{
	size_t done = 0;
	long more;

	if (table_is_empty(reader->table) || size == 0)
		return 0;
	forget_old(reader->ahead);
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

int render_size(struct po_reader *reader, const struct text_cache *cache, u64 *total)
{
	const struct po_table *table = reader->table;
	struct record record = {0};
	int found;

	if (table_is_empty(table))
		return 0;
	forget_old(reader->ahead);
	while ((found = next_record(reader, cache, &record, PAGE_SCAN_BATCH)) != 0) {
		if (unlikely(found < 0))
			return found;
		*total += record_size(&record);
		reader->pos_pfn = next_pfn(reader->table, &record);
		drop_behind(table, &reader->dropped_pfn, reader->pos_pfn);
	}
	drop_behind(table, &reader->dropped_pfn, reader->pos_pfn);
	return 0;
}
