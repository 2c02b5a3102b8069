/* SPDX-License-Identifier: MIT */
/* The text of one record, in the formats of print_page_owner() of all kernels. */
#ifndef PAGEOWNERFS_RECORD_TEXT_H
#define PAGEOWNERFS_RECORD_TEXT_H

#include "tables/page_ext.h"
#include "text/page_owner_text.h"
#include "base/put.h"
#include "tables/record_list.h"

/*
 * A record and the texts that belong to it. Starts as zeroes, and is used for one record after the
 * other.
 */
struct record {
	struct page_owner owner;
	u64 at; /* place in the table: the PFN, or the number in a record_list */
	u64 pfn, block, flags_word, memcg_number;
	const struct text *gfp, *flags, *page_mt, *block_mt;
	const struct text *stack, *reason, *memcg; /* NULL: no such line */
	const struct verbatim *verbatim;	   /* all of its text; NULL: the fields make it */
	unsigned int comm_size;
	u16 nid;
	u8 page_mt_number, block_mt_number, fields;
	bool shows_handle;
};

/* What the record before had, and where it was printed: neighbours have much in common. */
struct previous {
	struct record record;
	const char *head, *tail; /* NULL: none yet */
	size_t head_size, tail_size;
};

/* The place behind a record. */
static inline u64 next_pfn(const struct po_table *table, const struct record *record)
{
	return pfn_after(table, record->at, record->owner.order);
}

static const char handle_line[] = "handle: ";
static const char migrated_line[] = "Page has been migrated, last migrate reason: ";

static inline size_t header_size(const struct record *record)
{
	const struct page_owner *owner = &record->owner;
	size_t size = sizeof("Page allocated via order , mask \n") - 1 + dec_size(owner->order) +
		      record->gfp->size;

	if (record->fields & TEXT_HAS_PID)
		size += sizeof(", pid ") - 1 + int_size(owner->pid);
	if (record->fields & TEXT_HAS_TGID)
		size += sizeof(", tgid  ()") - 1 + int_size(owner->tgid) + record->comm_size;
	if (record->fields & TEXT_HAS_TS)
		size += sizeof(", ts  ns") - 1 + dec_size(owner->ts_nsec);
	if (record->fields & TEXT_HAS_FREE_TS)
		size += sizeof(", free_ts  ns") - 1 + dec_size(owner->free_ts_nsec);
	return size;
}

static inline size_t pfn_line_size(const struct record *record)
{
	return sizeof("PFN  type  Block  type  Flags \n") - 1 + record->page_mt->size +
	       dec_size(record->block) + record->block_mt->size + record->flags->size +
	       (record->fields & TEXT_PFN_HEX ? 2 + hex_size(record->pfn) : dec_size(record->pfn));
}

static inline size_t record_size(const struct record *record)
{
	if (unlikely(record->verbatim))
		return record->verbatim->size;
	return header_size(record) + pfn_line_size(record) +
	       (record->stack ? record->stack->size : 0) +
	       (record->shows_handle ? sizeof("handle: \n") - 1 + dec_size(record->owner.handle)
				     : 0) +
	       (record->reason ? sizeof(migrated_line) + record->reason->size : 0) +
	       (record->memcg ? record->memcg->size : 0) + 1;
}

/* No record with these texts is longer. */
static inline size_t record_size_max(const struct record *record)
{
	if (unlikely(record->verbatim))
		return record->verbatim->size;
	return 320 + record->gfp->size + record->page_mt->size + record->block_mt->size +
	       record->flags->size + (record->stack ? record->stack->size : 0) +
	       (record->reason ? record->reason->size : 0) +
	       (record->memcg ? record->memcg->size : 0);
}

/* "Page allocated via ..." up to the time. */
static inline char *put_head(char *out, const struct record *record)
{
	const struct page_owner *owner = &record->owner;

	out = put_literal(out, "Page allocated via order ");
	out = put_dec(out, owner->order);
	out = put_literal(out, ", mask ");
	out = put_text(out, record->gfp);
	if (likely(record->fields & TEXT_HAS_PID)) {
		out = put_literal(out, ", pid ");
		out = put_int(out, owner->pid);
	}
	if (likely(record->fields & TEXT_HAS_TGID)) {
		out = put_literal(out, ", tgid ");
		out = put_int(out, owner->tgid);
		out = put_literal(out, " (");
		out = (char *)memcpy(out, owner->comm, record->comm_size) + record->comm_size;
		*out++ = ')';
	}
	return out;
}

/* The times, and the PFN. */
static inline char *put_numbers(char *out, const struct record *record)
{
	if (likely(record->fields & TEXT_HAS_TS)) {
		out = put_literal(out, ", ts ");
		out = put_dec(out, record->owner.ts_nsec);
		out = put_literal(out, " ns");
	}
	if (unlikely(record->fields & TEXT_HAS_FREE_TS)) {
		out = put_literal(out, ", free_ts ");
		out = put_dec(out, record->owner.free_ts_nsec);
		out = put_literal(out, " ns");
	}
	out = put_literal(out, "\nPFN ");
	if (unlikely(!(record->fields & TEXT_PFN_HEX)))
		return put_dec(out, record->pfn);
	out = put_literal(out, "0x");
	return put_hex(out, record->pfn);
}

/* What follows the PFN in its line. */
static inline char *put_types(char *out, const struct record *record)
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
	return out;
}

/* The lines behind the PFN line. */
static inline char *put_lines(char *out, const struct record *record)
{
	if (likely(record->stack))
		out = put_text(out, record->stack);
	if (record->shows_handle) {
		out = put_literal(out, handle_line);
		out = put_dec(out, record->owner.handle);
		*out++ = '\n';
	}
	if (record->reason) {
		out = put_literal(out, migrated_line);
		out = put_text(out, record->reason);
		*out++ = '\n';
	}
	if (record->memcg)
		out = put_text(out, record->memcg);
	*out++ = '\n';
	return out;
}

static inline bool same_head(const struct record *a, const struct record *b)
{
	return a->owner.gfp_mask == b->owner.gfp_mask && a->owner.pid == b->owner.pid &&
	       a->owner.tgid == b->owner.tgid && a->owner.order == b->owner.order &&
	       a->fields == b->fields && memcmp(a->owner.comm, b->owner.comm, TASK_COMM_LEN) == 0;
}

static inline bool same_tail(const struct record *a, const struct record *b)
{
	return a->page_mt == b->page_mt && a->block == b->block && a->block_mt == b->block_mt &&
	       a->flags == b->flags && a->stack == b->stack && a->owner.handle == b->owner.handle &&
	       a->reason == b->reason && a->memcg == b->memcg;
}

static inline char *put_record(char *out, const struct record *record, struct previous *previous)
{
	char *start = out;

	if (unlikely(record->verbatim))
		return (char *)memcpy(out, record->verbatim->text, record->verbatim->size) +
		       record->verbatim->size;
	if (likely(previous->head && same_head(record, &previous->record))) {
		out = (char *)memcpy(out, previous->head, previous->head_size) +
		      previous->head_size;
	} else {
		out = put_head(out, record);
		previous->head_size = (size_t)(out - start);
	}
	previous->head = start;
	out = put_numbers(out, record);
	start = out;
	if (likely(previous->tail && same_tail(record, &previous->record))) {
		out = (char *)memcpy(out, previous->tail, previous->tail_size) +
		      previous->tail_size;
	} else {
		out = put_lines(put_types(out, record), record);
		previous->tail_size = (size_t)(out - start);
	}
	previous->tail = start;
	previous->record = *record;
	return out;
}

#endif
