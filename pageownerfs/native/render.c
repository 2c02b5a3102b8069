// SPDX-License-Identifier: MIT
/*
 * render.c - records to text, in the format of 6.12's print_page_owner().
 *
 * Knows no name: it joins numbers with texts that it finds in a cache (text_cache.c). Runs without the
 * GIL; a text that is missing makes it return, to be called again once Python has added it.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "page_ext.h"
#include "record_text.h"

#define ONE_RECORD_BYTES 4096	       /* a read of no more than this gets one record, as in the kernel */
#define CHECKPOINT_BYTES (256UL << 10) /* of text, between two */
#define COPY_TRIES 64
#define NR_STATES 8		  /* that next_head() looks at in one go */
#define LOOK_AHEAD_PFNS 8192	  /* 512 KiB of page_ext: still in the cache when the reader gets there */
#define LOOK_AHEAD_NSEC 100000000 /* that what was seen is used */

struct checkpoint {
	u64 offset, pfn;
};

__attribute__((noinline)) u64 next_head(const struct po_table *table, u64 pfn, u64 end)
{
	for (; pfn < end; pfn++) {
		const struct page_owner *shared = record_at(table, pfn);

		if (state_of(shared) & PAGE_EXT_OWNER_ALLOCATED) {
			if (!is_tail(table, pfn, order_of(table, shared)))
				break;
			continue;
		}
		/* Where one page is free many are. */
		for (; pfn + NR_STATES < end; pfn += NR_STATES, shared += NR_STATES) {
			u8 any = 0;

			__builtin_prefetch(&shared[PREFETCH_PFNS]);
			for (int i = 1; i <= NR_STATES; i++)
				any |= state_of(&shared[i]);
			if (any & PAGE_EXT_OWNER_ALLOCATED)
				break;
		}
	}
	return pfn;
}

/*
 * Copy the record of an allocated page; false if there is none. ts_nsec is another one for each
 * allocation of a page, is stored before the rest and state after it: if neither has changed around
 * the copy, everything between belongs to one allocation.
 */
static bool page_owner_copy(const struct po_table *table, const struct page_owner *shared, struct page_owner *copy)
{
	for (int try = 0; try < COPY_TRIES; try++) {
		u64 ts = atomic_load_explicit((const _Atomic u64 *)&shared->ts_nsec, memory_order_acquire);
		u8 state = atomic_load_explicit((const _Atomic u8 *)&shared->state, memory_order_acquire);

		if (!(state & PAGE_EXT_OWNER_ALLOCATED))
			return false;
		if (is_early(table, state)) {
			*copy = *table->early;
			return true;
		}
		memcpy(copy, (const void *)shared, sizeof(*copy));
		__asm__ __volatile__("" ::: "memory");
		atomic_thread_fence(memory_order_acquire);
		if (likely(ts == atomic_load_explicit((const _Atomic u64 *)&shared->ts_nsec, memory_order_relaxed) &&
			   state == atomic_load_explicit((const _Atomic u8 *)&shared->state, memory_order_relaxed) &&
			   copy->ts_nsec == ts)) {
			copy->state = state;
			return true;
		}
	}
	return false; /* changes hands all the time: as good as free */
}

bool read_page_owner(const struct po_table *table, u64 at, struct page_owner *copy)
{
	const struct page_owner *shared = record_at(table, at);

	if (page_owner_copy(table, shared, copy))
		return true;
	memcpy(copy, (const void *)shared, sizeof(*copy));
	copy->state &= (u8)~PAGE_EXT_OWNER_ALLOCATED;
	return false;
}

/* What the kernel's read_page_owner() skips: free pages, tail pages, pages without a stack. */
static inline bool find_record(const struct po_table *table, u64 *pfn, struct record *record)
{
	u64 end = table->end_pfn, at;

	/* Most often it is the very page that is asked for. */
	for (at = *pfn; at < end; at = next_head(table, at + 1, end)) {
		if (page_owner_copy(table, record_at(table, at), &record->owner) &&
		    !is_tail(table, at, record->owner.order) && record->owner.handle) {
			*pfn = record->at = at;
			return true;
		}
	}
	*pfn = at;
	return false;
}

static u64 now_nsec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

/* How many pages to ask for, for so many bytes of text: a record has 300 or so. */
static inline u32 nr_ahead(u64 bytes)
{
	u64 nr = 8 + bytes / 256;

	return nr < PAGE_SCAN_BATCH ? (u32)nr : PAGE_SCAN_BATCH;
}

/* Ask for a page and the heads behind it, up to nr; false: no memory. */
static bool look_ahead(struct po_reader *reader, u64 pfn, u32 nr)
{
	const struct po_table *table = reader->table;
	u64 end = table->end_pfn - pfn < LOOK_AHEAD_PFNS ? table->end_pfn : pfn + LOOK_AHEAD_PFNS;
	struct lookahead *ahead = reader->ahead;

	if (!ahead)
		ahead = reader->ahead = malloc(sizeof(*ahead));
	if (!ahead)
		return false;
	ahead->asked_nsec = now_nsec();
	ahead->nr = ahead->next = 0;
	do {
		const struct page_owner *shared = record_at(table, pfn);

		ahead->pfn[ahead->nr] = pfn;
		/* what stays if asking fails */
		ahead->info[ahead->nr++] =
			(struct page_info){.pageblock_migratetype = shared->pageblock_migratetype};
		pfn = next_head(table, pfn_after(table, pfn, order_of(table, shared)), end);
	} while (pfn < end && ahead->nr < nr);
	table->scan(table->scanner, ahead);
	return true;
}

static __attribute__((noinline)) const struct page_info *page_info(struct po_reader *reader, u64 pfn, u32 nr)
{
	struct lookahead *ahead = reader->ahead;

	if (likely(ahead)) {
		while (ahead->next < ahead->nr && ahead->pfn[ahead->next] < pfn)
			ahead->next++;
		if (likely(ahead->next < ahead->nr && ahead->pfn[ahead->next] == pfn))
			return &ahead->info[ahead->next];
	}
	return look_ahead(reader, pfn, nr) ? &reader->ahead->info[0] : NULL;
}

/* Once per call is enough: none takes longer over what it has asked for. */
static void forget_old(struct lookahead *ahead)
{
	if (ahead && now_nsec() - ahead->asked_nsec > LOOK_AHEAD_NSEC)
		ahead->nr = 0;
}

u64 next_pfn(const struct po_table *table, const struct record *record)
{
	return pfn_after(table, record->at, record->owner.order);
}

/*
 * The text of a value. last is where the record before has left its text of this kind: mostly it is
 * the same one.
 */
static inline bool want(const struct text **last, const struct text_cache *cache, enum text_kind kind, u64 value,
			struct text_miss *miss)
{
	if (likely(*last && (*last)->value == value))
		return true;
	*last = text_find(cache, kind, value);
	if (likely(*last))
		return true;
	*miss = (struct text_miss){.kind = kind, .value = value};
	return false;
}

/* What is known of a page beside its record; false: no memory. */
static inline bool find_info(struct po_reader *reader, struct record *record, u32 nr)
{
	const struct po_table *table = reader->table;
	const struct page_owner *owner = &record->owner;
	const struct record_list *list = table->list;

	record->pfn = record->at;
	record->fields = reader->fields ? reader->fields : TEXT_FIELDS_6_12;
	record->page_mt_number = (u8)((owner->gfp_mask & 0x18) >> 3);
	record->block_mt_number = owner->pageblock_migratetype;
	record->memcg_number = 0;
	if (unlikely(list)) {
		const struct record_info *info = &list->infos[owner->info];

		record->pfn = record_pfn(owner);
		record->flags_word = info->flags;
		record->memcg_number = info->memcg;
		record->page_mt_number = info->page_mt;
		record->nid = info->nid;
		if (info->fields && !reader->fields)
			record->fields = info->fields;
	} else if (unlikely(table->scan)) {
		const struct page_info *info = page_info(reader, record->pfn, nr);

		if (!info)
			return false;
		record->flags_word = info->flags;
		record->memcg_number = info->memcg;
		record->block_mt_number = info->pageblock_migratetype;
	} else {
		record->flags_word = *(const volatile u64 *)(table->flags + (record->pfn - table->start_pfn) *
									      table->flags_stride);
		if (table->pageblock_flags)
			record->block_mt_number = table->pageblock_flags[record->pfn >> table->pageblock_order];
	}
	if (unlikely(table->nid_bits))
		record->nid = (u16)(record->flags_word >> table->nid_shift & ((1ULL << table->nid_bits) - 1));
	record->block = record->pfn >> table->pageblock_order;
	return true;
}

bool page_info_at(const struct po_table *table, u64 at, struct page_info *info)
{
	struct record record = {.at = at};
	struct po_reader reader;
	bool done;

	reader_init(&reader, table);
	memcpy(&record.owner, (const void *)record_at(table, at), sizeof(record.owner));
	done = find_info(&reader, &record, 1);
	*info = (struct page_info){.flags = record.flags_word,
				   .memcg = record.memcg_number,
				   .pageblock_migratetype = record.block_mt_number};
	reader_free(&reader);
	return done;
}

static bool has_pid(const s32 *pids, u32 nr, s32 pid)
{
	for (u32 i = 0; i < nr; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

static bool wants_process(const struct record_filter *filter, const struct page_owner *owner)
{
	return has_pid(filter->pids, filter->nr_pids, owner->pid) ||
	       has_pid(filter->tgids, filter->nr_tgids, owner->tgid);
}

int next_record_info(struct po_reader *reader, struct record *record, u32 nr)
{
	const struct record_filter *filter = &reader->filter;

	for (; find_record(reader->table, &reader->pos_pfn, record);
	     reader->pos_pfn = next_pfn(reader->table, record)) {
		if (unlikely(filter->by_process && !wants_process(filter, &record->owner)))
			continue;
		if (!find_info(reader, record, nr))
			return RENDER_NOMEM;
		if (likely(!filter->by_nid || filter->nids[record->nid / 64] >> record->nid % 64 & 1))
			return 1;
	}
	return 0;
}

/* The texts of what next_record_info() has found: 0, RENDER_MISS. */
static inline int find_texts(struct po_reader *reader, const struct text_cache *cache, struct record *record)
{
	const struct page_owner *owner = &record->owner;
	struct text_miss *miss = &reader->miss;

	record->verbatim = NULL;
	record->shows_handle = reader->filter.mode != PRINT_STACK;
	if (unlikely(owner->state & PAGE_EXT_OWNER_VERBATIM) && reader->table->list && !reader->fields &&
	    !record->shows_handle) {
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
	else if (!want(&record->reason, cache, TEXT_MIGRATE_REASON, (u64)owner->last_migrate_reason, miss))
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

/* The next record from pos_pfn on: 1, 0 at the end, RENDER_MISS, RENDER_NOMEM. nr: of pages to ask for, if need be. */
static inline int next_record(struct po_reader *reader, const struct text_cache *cache, struct record *record, u32 nr)
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
	reader->pos_pfn = reader->dropped_pfn = table->start_pfn;
}

void reader_free(struct po_reader *reader)
{
	free(reader->ahead);
	free(reader->record);
	free(reader->checkpoints);
}

static void note_checkpoint(struct po_reader *reader)
{
	size_t nr = reader->nr_checkpoints;

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
	reader->checkpoints[nr] = (struct checkpoint){.offset = reader->pos_offset, .pfn = reader->pos_pfn};
	reader->nr_checkpoints = nr + 1;
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
	/* Offsets are those of the text from now on, as if it had always been what it is from here. */
	reader->nr_checkpoints = 0;
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
	reader->pos_pfn = next_pfn(reader->table, record);
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
static long read_records(struct po_reader *reader, const struct text_cache *cache, char *out, size_t size,
			 bool fill)
{
	bool one = !fill && size <= ONE_RECORD_BYTES;
	struct previous previous = {0};
	struct record record = {0};
	char *start = out;
	long part;

	while (size > (size_t)(out - start)) {
		size_t room = size - (size_t)(out - start);
		u64 pfn = reader->pos_pfn;
		int found = next_record(reader, cache, &record, nr_ahead(room));

		if (unlikely(found == 0))
			reader->pos_pfn = pfn; /* for what may come to be there, or another filter */
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

/* Go to where the record around offset begins. 0, RENDER_MISS, RENDER_NOMEM; pos_offset < offset: beyond the end. */
static int seek(struct po_reader *reader, const struct text_cache *cache, u64 offset)
{
	struct checkpoint from = {.offset = 0, .pfn = reader->table->start_pfn};
	struct record record = {0};

	/* Before where a filter was set the text is another one now, and so is what follows it from there. */
	if (reader->nr_checkpoints && offset < reader->checkpoints[0].offset)
		reader->nr_checkpoints = 0;
	for (size_t low = 0, high = reader->nr_checkpoints; low < high;) {
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
		reader->pos_pfn = from.pfn;
		reader->dropped_pfn = from.pfn;
	}
	reader->record_size = 0;
	while (reader->pos_offset < offset) {
		u64 pfn = reader->pos_pfn;
		int found = next_record(reader, cache, &record, nr_ahead(offset - reader->pos_offset));
		size_t size;

		if (found == 0)
			reader->pos_pfn = pfn;
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

static bool in_record(const struct po_reader *reader, u64 offset)
{
	return reader->record_size && offset >= reader->record_offset &&
	       offset < reader->record_offset + reader->record_size;
}

long reader_read(struct po_reader *reader, const struct text_cache *cache, char *out, size_t size, u64 offset,
		 bool fill)
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
