// SPDX-License-Identifier: MIT
/*
 * record_find.c - which pages have a record to show, and what is known of them beside it.
 *
 * What the kernel's read_page_owner() skips is skipped here; so is what a reader's filters leave
 * out.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/gfp.h"
#include "text/record_text.h"

#define COPY_TRIES 64
#define NR_STATES 8 /* that next_head() looks at in one go */
/* 512 KiB of page_ext: still in the cache when the reader gets there */
#define LOOK_AHEAD_PFNS 8192
#define LOOK_AHEAD_NSEC 100000000 /* that what was seen is used */

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
static bool page_owner_copy(const struct po_table *table, const struct page_owner *shared,
			    struct page_owner *copy)
{
	for (int try = 0; try < COPY_TRIES; try++) {
		u64 ts = atomic_load_explicit((const _Atomic u64 *)&shared->ts_nsec,
					      memory_order_acquire);
		u8 state = atomic_load_explicit((const _Atomic u8 *)&shared->state,
						memory_order_acquire);

		if (!(state & PAGE_EXT_OWNER_ALLOCATED))
			return false;
		if (is_early(table, state)) {
			*copy = *table->early;
			return true;
		}
		memcpy(copy, (const void *)shared, sizeof(*copy));
		barrier();
		atomic_thread_fence(memory_order_acquire);
		if (likely(ts == atomic_load_explicit((const _Atomic u64 *)&shared->ts_nsec,
						      memory_order_relaxed) &&
			   state == atomic_load_explicit((const _Atomic u8 *)&shared->state,
							 memory_order_relaxed) &&
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
	ahead->asked_nsec = ktime_get_ns();
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

static __attribute__((noinline)) const struct page_info *page_info(struct po_reader *reader,
								   u64 pfn, u32 nr)
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

void forget_old(struct lookahead *ahead)
{
	if (ahead && ktime_get_ns() - ahead->asked_nsec > LOOK_AHEAD_NSEC)
		ahead->nr = 0;
}

/* What is known of a page beside its record; false: no memory. */
static inline bool find_info(struct po_reader *reader, struct record *record, u32 nr)
{
	const struct po_table *table = reader->table;
	const struct page_owner *owner = &record->owner;
	const struct record_list *list = table->list;

	record->pfn = record->at;
	record->fields = reader->fields ? reader->fields : TEXT_FIELDS_6_12;
	record->page_mt_number = (u8)gfp_migratetype(owner->gfp_mask);
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
		record->flags_word =
			*(const volatile u64 *)(table->flags + (record->pfn - table->start_pfn) *
								       table->flags_stride);
		if (table->pageblock_flags)
			record->block_mt_number =
				table->pageblock_flags[record->pfn >> table->pageblock_order];
	}
	if (unlikely(table->nid_bits))
		record->nid = (u16)(record->flags_word >> table->nid_shift &
				    ((1ULL << table->nid_bits) - 1));
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
		if (likely(!filter->by_nid ||
			   filter->nids[record->nid / 64] >> record->nid % 64 & 1))
			return 1;
	}
	return 0;
}
