/* SPDX-License-Identifier: MIT */
/*
 * The only writer of the header line and the PFN line of a record, in the formats of
 * print_page_owner() of all kernels. put_*() write, *_size() return how many bytes that takes.
 */
#ifndef PAGEOWNERFS_RECORD_PUT_H
#define PAGEOWNERFS_RECORD_PUT_H

#include "text/flags_text.h"
#include "text/page_owner_text.h"

/* The fields of a header line, except the times. */
struct header {
	const char *mask, *comm;
	size_t mask_size, comm_size;
	s32 pid, tgid;
	u8 order, fields; /* TEXT_HAS_* */
};

/* The fields of a PFN line. */
struct pfn_line {
	u64 pfn, block;
	const char *page_mt, *block_mt;
	size_t page_mt_size, block_mt_size;
	const struct flags_text *flags;
	bool hex;
};

static inline size_t header_size(const struct header *header, u64 ts_nsec, u64 free_ts_nsec)
{
	size_t size =
		sizeof(RECORD_START ", mask \n") - 1 + dec_size(header->order) + header->mask_size;

	if (header->fields & TEXT_HAS_PID)
		size += sizeof(", pid ") - 1 + int_size(header->pid);
	if (header->fields & TEXT_HAS_TGID)
		size += sizeof(", tgid  ()") - 1 + int_size(header->tgid) + header->comm_size;
	if (header->fields & TEXT_HAS_TS)
		size += sizeof(", ts  ns") - 1 + dec_size(ts_nsec);
	if (header->fields & TEXT_HAS_FREE_TS)
		size += sizeof(", free_ts  ns") - 1 + dec_size(free_ts_nsec);
	return size;
}

/* "Page allocated via ...", up to the times. */
static inline char *put_header(char *out, const struct header *header)
{
	out = put_dec(put_literal(out, RECORD_START), header->order);
	out = put_bytes(put_literal(out, ", mask "), header->mask, header->mask_size);
	if (likely(header->fields & TEXT_HAS_PID))
		out = put_int(put_literal(out, ", pid "), header->pid);
	if (likely(header->fields & TEXT_HAS_TGID)) {
		out = put_int(put_literal(out, ", tgid "), header->tgid);
		out = put_bytes(put_literal(out, " ("), header->comm, header->comm_size);
		*out++ = ')';
	}
	return out;
}

/* The times and the end of the line. ts_nsec NULL: its digits are left out. */
static inline char *put_times(char *out, u8 fields, const u64 *ts_nsec, u64 free_ts_nsec)
{
	if (likely(fields & TEXT_HAS_TS)) {
		out = put_literal(out, ", ts ");
		if (ts_nsec)
			out = put_dec(out, *ts_nsec);
		out = put_literal(out, " ns");
	}
	if (unlikely(fields & TEXT_HAS_FREE_TS)) {
		out = put_dec(put_literal(out, ", free_ts "), free_ts_nsec);
		out = put_literal(out, " ns");
	}
	*out++ = '\n';
	return out;
}

static inline size_t pfn_line_size(const struct pfn_line *line)
{
	return sizeof("PFN  type  Block  type  Flags \n") - 1 + line->page_mt_size +
	       dec_size(line->block) + line->block_mt_size + flags_size(line->flags) +
	       (line->hex ? 2 + hex_size(line->pfn) : dec_size(line->pfn));
}

static inline char *put_pfn(char *out, u64 pfn, bool hex)
{
	out = put_literal(out, "PFN ");
	if (unlikely(!hex))
		return put_dec(out, pfn);
	return put_hex(put_literal(out, "0x"), pfn);
}

/* The rest of a PFN line, after the PFN. */
static inline char *put_types(char *out, const struct pfn_line *line)
{
	out = put_bytes(put_literal(out, " type "), line->page_mt, line->page_mt_size);
	out = put_dec(put_literal(out, " Block "), line->block);
	out = put_bytes(put_literal(out, " type "), line->block_mt, line->block_mt_size);
	out = put_flags(put_literal(out, " Flags "), line->flags);
	*out++ = '\n';
	return out;
}

#endif
