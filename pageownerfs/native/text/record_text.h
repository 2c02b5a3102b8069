/* SPDX-License-Identifier: MIT */
/* The complete text of a record, made from the record and the texts that belong to it. */
#ifndef PAGEOWNERFS_RECORD_TEXT_H
#define PAGEOWNERFS_RECORD_TEXT_H

#include "tables/record_list.h"
#include "tables/table.h"
#include "text/record_put.h"
#include "text/text_cache.h"

/* Starts zeroed, and is reused for one record after another. */
struct record_text {
	struct record record;
	u64 block;
	const struct text *gfp, *page_mt, *block_mt;
	/* the part of flags that comes from the cache, if any */
	const struct text *flag_names;
	const struct text *stack, *reason, *memcg; /* NULL: no such line */
	/* the complete text; NULL: the other fields make it */
	const struct verbatim *verbatim;
	struct flags_text flags;
	size_t comm_size;
	u8 fields; /* TEXT_*, never 0 */
	bool shows_handle;
};

/* The previous record and where it was printed: neighbours have much in common. */
struct previous {
	struct record_text text;
	const char *head, *tail; /* NULL: none yet */
	size_t head_size, tail_size;
};

static const char handle_line[] = "handle: ";
static const char migrated_line[] = "Page has been migrated, last migrate reason: ";

static inline struct flags_text printed_flags(const struct record_info *info)
{
	return (struct flags_text){.word = info->flags,
				   .names = info->flag_names,
				   .fields = info->flag_fields,
				   .names_size = info->flag_names_size,
				   .fields_size = info->flag_fields_size};
}

static inline struct header header_of(const struct record_text *text)
{
	const struct page_owner *owner = &text->record.owner;

	return (struct header){.mask = text->gfp->data,
			       .comm = owner->comm,
			       .mask_size = text->gfp->size,
			       .comm_size = text->comm_size,
			       .pid = owner->pid,
			       .tgid = owner->tgid,
			       .order = owner->order,
			       .fields = text->fields};
}

static inline struct pfn_line pfn_line_of(const struct record_text *text)
{
	return (struct pfn_line){.pfn = text->record.pfn,
				 .block = text->block,
				 .page_mt = text->page_mt->data,
				 .block_mt = text->block_mt->data,
				 .page_mt_size = text->page_mt->size,
				 .block_mt_size = text->block_mt->size,
				 .flags = &text->flags,
				 .hex = text->fields & TEXT_PFN_HEX};
}

static inline size_t record_size(const struct record_text *text)
{
	const struct page_owner *owner = &text->record.owner;
	struct header header;
	struct pfn_line line;

	if (unlikely(text->verbatim))
		return text->verbatim->size;
	header = header_of(text);
	line = pfn_line_of(text);
	return header_size(&header, owner->ts_nsec, owner->free_ts_nsec) + pfn_line_size(&line) +
	       (text->stack ? text->stack->size : 0) +
	       (text->shows_handle ? sizeof("handle: \n") - 1 + dec_size(owner->handle) : 0) +
	       (text->reason ? sizeof(migrated_line) + text->reason->size : 0) +
	       (text->memcg ? text->memcg->size : 0) + 1;
}

/* An upper bound of the size of a record with these texts. */
static inline size_t record_size_max(const struct record_text *text)
{
	if (unlikely(text->verbatim))
		return text->verbatim->size;
	return 320 + text->gfp->size + text->page_mt->size + text->block_mt->size +
	       text->flags.names_size + text->flags.fields_size +
	       (text->stack ? text->stack->size : 0) + (text->reason ? text->reason->size : 0) +
	       (text->memcg ? text->memcg->size : 0);
}

/* The lines after the PFN line. */
static inline char *put_lines(char *out, const struct record_text *text)
{
	if (likely(text->stack))
		out = put_text(out, text->stack);
	if (text->shows_handle) {
		out = put_dec(put_literal(out, handle_line), text->record.owner.handle);
		*out++ = '\n';
	}
	if (text->reason) {
		out = put_text(put_literal(out, migrated_line), text->reason);
		*out++ = '\n';
	}
	if (text->memcg)
		out = put_text(out, text->memcg);
	*out++ = '\n';
	return out;
}

static inline bool same_head(const struct record_text *a, const struct record_text *b)
{
	const struct page_owner *owner = &a->record.owner, *other = &b->record.owner;

	return owner->gfp_mask == other->gfp_mask && owner->pid == other->pid &&
	       owner->tgid == other->tgid && owner->order == other->order &&
	       a->fields == b->fields && memcmp(owner->comm, other->comm, TASK_COMM_LEN) == 0;
}

static inline bool same_tail(const struct record_text *a, const struct record_text *b)
{
	return a->page_mt == b->page_mt && a->block == b->block && a->block_mt == b->block_mt &&
	       same_flags(&a->flags, &b->flags) && a->stack == b->stack &&
	       a->record.owner.handle == b->record.owner.handle && a->reason == b->reason &&
	       a->memcg == b->memcg;
}

static inline char *put_record(char *out, const struct record_text *text, struct previous *previous)
{
	const struct page_owner *owner = &text->record.owner;
	bool has_same_head = previous->head && same_head(text, &previous->text);
	bool has_same_tail = previous->tail && same_tail(text, &previous->text);
	char *start = out;

	if (unlikely(text->verbatim))
		return put_bytes(out, text->verbatim->text, text->verbatim->size);
	if (likely(has_same_head)) {
		out = put_bytes(out, previous->head, previous->head_size);
	} else {
		struct header header = header_of(text);

		out = put_header(out, &header);
		previous->head_size = (size_t)(out - start);
	}
	previous->head = start;
	out = put_times(out, text->fields, &owner->ts_nsec, owner->free_ts_nsec);
	out = put_pfn(out, text->record.pfn, text->fields & TEXT_PFN_HEX);
	start = out;
	if (likely(has_same_tail)) {
		out = put_bytes(out, previous->tail, previous->tail_size);
	} else {
		struct pfn_line line = pfn_line_of(text);

		out = put_lines(put_types(out, &line), text);
		previous->tail_size = (size_t)(out - start);
	}
	previous->tail = start;
	if (!has_same_head || !has_same_tail)
		previous->text = *text;
	return out;
}

#endif
