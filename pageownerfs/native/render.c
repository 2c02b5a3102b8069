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
#include "put.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ONE_RECORD_BYTES 4096	       /* a read of no more than this gets one record, as in the kernel */
#define CHECKPOINT_BYTES (256UL << 10) /* of text, between two */
#define COPY_TRIES 64
#define NR_STATES 8		  /* that next_head() looks at in one go */
#define LOOK_AHEAD_PFNS 8192	  /* 512 KiB of page_ext: still in the cache when the reader gets there */
#define LOOK_AHEAD_NSEC 100000000 /* that what was seen is used */

struct checkpoint {
	u64 offset, pfn;
};

/* A record and the texts that belong to it. Starts as zeroes, and is used for one record after the other. */
struct record {
	struct page_owner owner;
	u64 pfn, block;
	const struct text *gfp, *flags, *stack, *page_mt, *block_mt;
	const struct text *reason, *memcg; /* NULL: no such line */
	unsigned int comm_size;
};

/* The first PFN from pfn on that may have a record to print: neither free nor a tail; end or beyond: none. */
static __attribute__((noinline)) u64 next_head(const struct po_table *table, u64 pfn, u64 end)
{
	for (; pfn < end; pfn++) {
		const struct page_owner *shared = record_at(table, pfn);

		if (state_of(shared) & PAGE_EXT_OWNER_ALLOCATED) {
			if (!is_tail(pfn, order_of(table, shared)))
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

/* What read_page_owner() skips: free pages, tail pages, pages without a stack. */
static inline bool find_record(const struct po_table *table, u64 *pfn, struct record *record)
{
	u64 end = table->end_pfn, at;

	/* Most often it is the very page that is asked for. */
	for (at = *pfn; at < end; at = next_head(table, at + 1, end)) {
		if (page_owner_copy(table, record_at(table, at), &record->owner) &&
		    !is_tail(at, record->owner.order) && record->owner.handle) {
			*pfn = record->pfn = at;
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
		pfn = next_head(table, pfn_after(pfn, order_of(table, shared)), end);
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

static inline u64 next_pfn(const struct record *record)
{
	return pfn_after(record->pfn, record->owner.order);
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

/* Look up a record's texts: 0, RENDER_MISS, RENDER_NOMEM. nr: of pages to ask for, if its own must be. */
static inline int find_texts(struct po_reader *reader, const struct text_cache *cache, struct record *record, u32 nr)
{
	const struct po_table *table = reader->table;
	const struct page_owner *owner = &record->owner;
	struct text_miss *miss = &reader->miss;
	u64 flags, memcg = 0;
	u8 block_mt;

	record->block = record->pfn >> table->pageblock_order;
	if (unlikely(table->scan)) {
		const struct page_info *info = page_info(reader, record->pfn, nr);

		if (!info)
			return RENDER_NOMEM;
		flags = info->flags;
		memcg = info->memcg;
		block_mt = info->pageblock_migratetype;
	} else {
		flags = *(const volatile u64 *)(table->flags + (record->pfn - table->start_pfn) * table->flags_stride);
		block_mt = table->pageblock_flags ? table->pageblock_flags[record->block] :
						    owner->pageblock_migratetype;
	}
	record->comm_size = (unsigned int)strnlen(owner->comm, TASK_COMM_LEN);
	if (!want(&record->gfp, cache, TEXT_GFP, owner->gfp_mask, miss) ||
	    !want(&record->flags, cache, TEXT_FLAGS, flags, miss) ||
	    !want(&record->stack, cache, TEXT_STACK, owner->handle, miss) ||
	    !want(&record->page_mt, cache, TEXT_MIGRATETYPE, (owner->gfp_mask & 0x18) >> 3, miss) ||
	    !want(&record->block_mt, cache, TEXT_MIGRATETYPE, block_mt, miss))
		return RENDER_MISS;
	if (likely(owner->last_migrate_reason < 0))
		record->reason = NULL;
	else if (!want(&record->reason, cache, TEXT_MIGRATE_REASON, (u64)owner->last_migrate_reason, miss))
		return RENDER_MISS;
	if (memcg == 0)
		record->memcg = NULL;
	else if (!want(&record->memcg, cache, TEXT_MEMCG, memcg, miss))
		return RENDER_MISS;
	return 0;
}

static const char migrated[] = "Page has been migrated, last migrate reason: ";

static inline size_t record_size(const struct record *record)
{
	const struct page_owner *owner = &record->owner;

	return sizeof("Page allocated via order , mask , pid , tgid  (), ts  ns\n") - 1 + dec_size(owner->order) +
	       record->gfp->size + int_size(owner->pid) + int_size(owner->tgid) + record->comm_size +
	       dec_size(owner->ts_nsec) + sizeof("PFN 0x type  Block  type  Flags \n") - 1 + hex_size(record->pfn) +
	       record->page_mt->size + dec_size(record->block) + record->block_mt->size + record->flags->size +
	       record->stack->size + (record->reason ? sizeof(migrated) + record->reason->size : 0) +
	       (record->memcg ? record->memcg->size : 0) + 1;
}

/* No record with these texts is longer. */
static inline size_t record_size_max(const struct record *record)
{
	return 256 + record->gfp->size + record->page_mt->size + record->block_mt->size + record->flags->size +
	       record->stack->size + (record->reason ? record->reason->size : 0) +
	       (record->memcg ? record->memcg->size : 0);
}

/* "Page allocated via ..." up to the time. */
static char *put_head(char *out, const struct record *record)
{
	const struct page_owner *owner = &record->owner;

	out = put_literal(out, "Page allocated via order ");
	out = put_dec(out, owner->order);
	out = put_literal(out, ", mask ");
	out = put_text(out, record->gfp);
	out = put_literal(out, ", pid ");
	out = put_int(out, owner->pid);
	out = put_literal(out, ", tgid ");
	out = put_int(out, owner->tgid);
	out = put_literal(out, " (");
	out = (char *)memcpy(out, owner->comm, record->comm_size) + record->comm_size;
	return put_literal(out, "), ts ");
}

/* What follows the PFN. */
static char *put_tail(char *out, const struct record *record)
{
	out = put_literal(out, " type ");
	out = put_text(out, record->page_mt);
	out = put_literal(out, " Block ");
	out = put_dec(out, record->block);
	out = put_literal(out, " type ");
	out = put_text(out, record->block_mt);
	out = put_literal(out, " Flags ");
	out = put_text(out, record->flags);
	*out++ = '\n';
	out = put_text(out, record->stack);
	if (record->reason) {
		out = put_literal(out, migrated);
		out = put_text(out, record->reason);
		*out++ = '\n';
	}
	if (record->memcg)
		out = put_text(out, record->memcg);
	*out++ = '\n';
	return out;
}

/* The record that was printed before, and where: neighbours have much in common. */
struct previous {
	struct record record;
	const char *head, *tail; /* NULL: none yet */
	size_t head_size, tail_size;
};

static inline bool same_head(const struct record *a, const struct record *b)
{
	return a->owner.gfp_mask == b->owner.gfp_mask && a->owner.pid == b->owner.pid &&
	       a->owner.tgid == b->owner.tgid && a->owner.order == b->owner.order &&
	       memcmp(a->owner.comm, b->owner.comm, TASK_COMM_LEN) == 0;
}

static inline bool same_tail(const struct record *a, const struct record *b)
{
	return a->page_mt == b->page_mt && a->block == b->block && a->block_mt == b->block_mt &&
	       a->flags == b->flags && a->stack == b->stack && a->reason == b->reason &&
	       a->memcg == b->memcg;
}

static char *put_record(char *out, const struct record *record, struct previous *previous)
{
	char *start = out;

	if (likely(previous->head && same_head(record, &previous->record))) {
		out = (char *)memcpy(out, previous->head, previous->head_size) + previous->head_size;
	} else {
		out = put_head(out, record);
		previous->head_size = (size_t)(out - start);
	}
	previous->head = start;
	out = put_dec(out, record->owner.ts_nsec);
	out = put_literal(out, " ns\nPFN 0x");
	out = put_hex(out, record->pfn);
	start = out;
	if (likely(previous->tail && same_tail(record, &previous->record))) {
		out = (char *)memcpy(out, previous->tail, previous->tail_size) + previous->tail_size;
	} else {
		out = put_tail(out, record);
		previous->tail_size = (size_t)(out - start);
	}
	previous->tail = start;
	previous->record = *record;
	return out;
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

long render_record(struct po_reader *reader, const struct text_cache *cache, u64 *pfn)
{
	struct record record = {0};
	long size;
	int error;

	if (*pfn < reader->table->start_pfn)
		*pfn = reader->table->start_pfn;
	if (table_is_empty(reader->table) || !find_record(reader->table, pfn, &record))
		return 0;
	error = find_texts(reader, cache, &record, 1);
	if (error)
		return error;
	size = keep_record(reader, &record, record_size(&record));
	if (size > 0)
		*pfn = next_pfn(&record);
	return size;
}

static void advance(struct po_reader *reader, const struct record *record, size_t size)
{
	note_checkpoint(reader);
	reader->pos_offset += size;
	reader->pos_pfn = next_pfn(record);
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

	while (size > (size_t)(out - start) && find_record(reader->table, &reader->pos_pfn, &record)) {
		size_t room = size - (size_t)(out - start);
		int error = find_texts(reader, cache, &record, nr_ahead(room));

		if (unlikely(error))
			return out > start ? out - start : error;
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
	while (reader->pos_offset < offset && find_record(reader->table, &reader->pos_pfn, &record)) {
		int error = find_texts(reader, cache, &record, nr_ahead(offset - reader->pos_offset));
		size_t size;

		if (error)
			return error;
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

	if (table_is_empty(table))
		return 0;
	forget_old(reader->ahead);
	while (find_record(table, &reader->pos_pfn, &record)) {
		int error = find_texts(reader, cache, &record, PAGE_SCAN_BATCH);

		if (unlikely(error))
			return error;
		*total += record_size(&record);
		reader->pos_pfn = next_pfn(&record);
		drop_behind(table, &reader->dropped_pfn, reader->pos_pfn);
	}
	drop_behind(table, &reader->dropped_pfn, reader->pos_pfn);
	return 0;
}
