// SPDX-License-Identifier: MIT
/*
 * page_owner_text.c - parser of a record's first two lines, and recovery from damage.
 */
#define _GNU_SOURCE
#include <string.h>

#include "text/text_steps.h"

#define PFN_LINE_MAX 4096	    /* no kernel prints one half as long */
#define HEAD_MAX (2 * PFN_LINE_MAX) /* header and PFN line, with some slack */
/* comm and the times after it: finding the end of a header takes this much text */
#define COMM_AHEAD 96
#define ORDER_MAX 51 /* 64 bits can address no more than 2^51 pages */
#define COMM_MAX (TASK_COMM_LEN - 1)

static inline const char *parse_pid(const char *p, const char *end, s32 *pid)
{
	bool negative = p && p < end && *p == '-';
	u64 number;

	p = parse_number(p ? p + negative : p, end, INT32_MAX, &number);
	*pid = negative ? -(s32)number : (s32)number;
	return negative && !number ? NULL : p;
}

static inline bool is_name(char c)
{
	return (unsigned char)(c - '0') < 10 || (unsigned char)((c | 0x20) - 'a') < 26 || c == '_';
}

static inline const char *skip_name(const char *p, const char *end)
{
	const char *start = p;

	while (p && p < end && is_name(*p))
		p++;
	return p == start ? NULL : p;
}

/* Is the last record's text here again, complete? */
static inline bool is_hinted(const char *p, const char *end, const char *text, size_t size,
			     char behind)
{
	return size && (size_t)(end - p) > size && p[size] == behind && !memcmp(p, text, size);
}

/* Parse "0xcc0(GFP_KERNEL|__GFP_ZERO)". The first kernels printed no names. */
static const char *parse_mask(const char *p, const char *end, struct text_hint *hint,
			      struct text_record *record)
{
	u64 mask;

	record->mask = p;
	if (p && is_hinted(p, end, hint->mask, hint->mask_size, ',')) {
		record->mask_size = hint->mask_size;
		record->gfp_mask = hint->gfp_mask;
		return p + hint->mask_size;
	}
	p = parse_hex(SKIP(p, end, "0x"), end, &mask);
	if (p && p < end && *p == '(') {
		for (p++; p < end && (is_name(*p) || *p == '|'); p++)
			;
		p = SKIP(p, end, ")");
	}
	if (!p || p - record->mask > TEXT_MASK_MAX)
		return NULL;
	record->mask_size = (u32)(p - record->mask);
	record->gfp_mask = hint->gfp_mask = (u32)mask;
	hint->mask_size = record->mask_size <= sizeof(hint->mask) ? record->mask_size : 0;
	memcpy(hint->mask, record->mask, hint->mask_size);
	return p;
}

/* Parse ", ts N ns" and the rest of the line. */
static const char *parse_times(const char *p, const char *end, struct text_record *record)
{
	const char *next;

	p = SKIP(parse_number(SKIP(p, end, ", ts "), end, UINT64_MAX, &record->ts_nsec), end,
		 " ns");
	if (!p)
		return NULL;
	record->fields |= TEXT_HAS_TS;
	next = SKIP(p, end, ", free_ts ");
	if (next) {
		p = SKIP(parse_number(next, end, UINT64_MAX, &record->free_ts_nsec), end, " ns");
		record->fields |= TEXT_HAS_FREE_TS;
	}
	return skip_newline(p, end);
}

/*
 * Parse "comm), ts ...". A comm may contain the end of a shorter comm but never of a longer one, so
 * the longest match wins.
 */
static const char *parse_comm(const char *p, const char *end, struct text_record *record)
{
	const u8 fields = record->fields;

	for (size_t size = end - p > COMM_MAX ? COMM_MAX : (size_t)(end - p); size != (size_t)-1;
	     size--) {
		const char *next;

		if (p + size == end || p[size] != ')')
			continue;
		next = parse_times(p + size + 1, end, record);
		if (next && !memchr(p, 0, size)) {
			record->comm = p;
			record->comm_size = (u8)size;
			return next;
		}
		record->fields = fields;
	}
	return NULL;
}

static const char *parse_header(const char *p, const char *end, struct text_hint *hint,
				struct text_record *record)
{
	const char *next;
	u64 order;

	p = parse_number(SKIP(p, end, RECORD_START), end, ORDER_MAX, &order);
	record->order = (u8)order;
	p = parse_mask(SKIP(p, end, ", mask "), end, hint, record);
	next = skip_newline(p, end); /* up to 5.10 */
	if (next || !p)
		return next;
	p = parse_pid(SKIP(p, end, ", pid "), end, &record->pid);
	if (!p)
		return NULL;
	record->fields |= TEXT_HAS_PID;
	next = SKIP(p, end, ", tgid ");
	if (!next)
		return parse_times(p, end, record); /* 5.11 to 5.17 */
	p = SKIP(parse_pid(next, end, &record->tgid), end, " (");
	record->fields |= TEXT_HAS_TGID;
	return p ? parse_comm(p, end, record) : NULL;
}

/*
 * Parse the line of kernels up to 4.5: " Block 8 type 1 Fallback Flags l ". Only the block and the
 * flags are certain to be there.
 */
static bool parse_old_types(const char *p, const char *end, struct text_record *record)
{
	struct text_types *parsed = &record->parsed;
	const char *type;
	u64 number = 0;

	p = SKIP(p, end, " Block ");
	if (!p || !memmem(p, (size_t)(end - p), " Flags ", 7) || has_control(p, (size_t)(end - p)))
		return false;
	parse_number(p, end, UINT64_MAX, &record->block);
	type = memmem(p, (size_t)(end - p), " type ", 6);
	if (type)
		parse_number(type + 6, end, UINT8_MAX, &number);
	parsed->old_block_mt = (u8)number;
	parsed->old_page_mt = CONTAINS(p, (size_t)(end - p), "Fallback") ? number ^ 1 : number;
	return true;
}

/* Parse "T Flags 0xF(names)", up to end. */
static bool parse_types(const char *start, const char *end, struct text_types *parsed)
{
	const char *block_mt_end = skip_name(start, end),
		   *flags = SKIP(block_mt_end, end, " Flags ");
	const char *p = SKIP(parse_hex(SKIP(flags, end, "0x"), end, &parsed->flags), end, "(");

	if (!p || end[-1] != ')' || has_control(p, (size_t)(end - p)))
		return false;
	parsed->size = (u32)(end - start);
	parsed->block_mt_size = (u32)(block_mt_end - start);
	parsed->flags_at = (u32)(flags - start);
	parsed->names_at = (u32)(p - start);
	return true;
}

static const char *parse_pfn(const char *p, const char *end, u64 *pfn, u8 *fields)
{
	const char *digits = SKIP(p, end, "0x");

	if (!digits)
		return parse_number(p, end, UINT64_MAX, pfn);
	*fields |= TEXT_PFN_HEX;
	p = parse_hex(digits, end, pfn);
	return p && p - digits <= 16 ? p : NULL;
}

/* Parse the line after the PFN, unless it equals the last record's. */
static bool parse_line_end(const char *p, const char *end, struct text_hint *hint,
			   struct text_record *record)
{
	const char *start = record->types ? record->types : p;
	const size_t size = (size_t)(end - start);
	struct text_types *parsed = &record->parsed;

	*parsed = (struct text_types){.number = hint->parsed.number + 1};
	if (record->types ? !parse_types(start, end, parsed) : !parse_old_types(p, end, record))
		return false;
	parsed->allocator = (CONTAINS(start, size, "CMA") ? ALLOCATOR_CMA : 0) |
			    (CONTAINS(start, size, "slab") ? ALLOCATOR_SLAB : 0);
	hint->parsed = *parsed;
	hint->types_size = record->types && size <= sizeof(hint->types) ? (u32)size : 0;
	memcpy(hint->types, start, hint->types_size);
	return true;
}

/* Parse " type T Block N type " and return what follows; NULL: something else is there. */
static const char *parse_block(const char *p, const char *end, struct text_record *record)
{
	const char *page_mt = SKIP(p, end, " type "), *page_mt_end = skip_name(page_mt, end);

	p = SKIP(parse_number(SKIP(page_mt_end, end, " Block "), end, UINT64_MAX, &record->block),
		 end, " type ");
	if (p) {
		record->page_mt = page_mt;
		record->page_mt_size = (u32)(page_mt_end - page_mt);
	}
	return p;
}

/*
 * Parse the PFN line at p, including its newline unless the text ends there. NULL: malformed or
 * incomplete.
 */
static const char *parse_pfn_line(const char *p, const char *end, bool more, struct text_hint *hint,
				  struct text_record *record)
{
	const char *next = parse_pfn(SKIP(p, end, "PFN "), end, &record->pfn, &record->fields),
		   *eol;

	record->pfn_line = p;
	record->fields |= TEXT_HAS_PFN;
	record->types = parse_block(next, end, record);
	if (record->types && is_hinted(record->types, end, hint->types, hint->types_size, '\n')) {
		record->parsed = hint->parsed;
		record->pfn_line_size = (u32)(record->types + hint->types_size - p);
		return record->types + hint->types_size + 1;
	}
	eol = memchr(p, '\n', (size_t)(end - p));
	if (!next || (!eol && more))
		return NULL;
	if (!eol)
		eol = end;
	if (eol - p > PFN_LINE_MAX || memmem(p, (size_t)(eol - p), RECORD_START, RECORD_START_SIZE))
		return NULL;
	record->pfn_line_size = (u32)(eol - p - (eol[-1] == '\r'));
	if (!parse_line_end(next, p + record->pfn_line_size, hint, record))
		return NULL;
	return eol < end ? eol + 1 : end;
}

static const char *skip_empty_lines(const char *p, const char *end)
{
	const char *next;

	while ((next = skip_newline(p, end)))
		p = next;
	return p;
}

enum text_status text_parse_head(const char **start, const char *end, bool final,
				 struct text_hint *hint, struct text_record *record)
{
	const char *p = *start = skip_empty_lines(*start, end);
	const size_t size = (size_t)(end - p);
	/* Anything wrong may be so only because the text ends here. */
	const bool more = !final && size < HEAD_MAX;

	*record = (struct text_record){.start = p, .comm = "", .pfn_line = "", .page_mt = ""};
	if (p == end)
		return TEXT_MORE;
	if (memcmp(p, RECORD_START, size < RECORD_START_SIZE ? size : RECORD_START_SIZE))
		return more && size == 1 && *p == '\r' ? TEXT_MORE
						       : damaged(record, "no record begins here");
	p = parse_header(p, end, hint, record);
	if (!p)
		return more ? TEXT_MORE : damaged(record, "the header line is malformed");
	/* The end of a longer comm or a PFN line may still follow. */
	if (!final &&
	    (end - p < 4 || (record->fields & TEXT_HAS_TGID && end - record->comm < COMM_AHEAD)))
		return TEXT_MORE;
	if (SKIP(p, end, "PFN")) {
		p = parse_pfn_line(p, end, more, hint, record);
		if (!p)
			return more ? TEXT_MORE : damaged(record, "the PFN line is malformed");
	}
	record->stack = p;
	return TEXT_RECORD;
}

/*
 * The place after the first empty line whose preceding line ends in [p, stop); NULL: there is none.
 */
static const char *behind_empty_line(const char *p, const char *stop, const char *end)
{
	while ((p = memchr(p, '\n', (size_t)(stop - p)))) {
		const char *behind = skip_newline(++p, end);

		if (behind)
			return behind;
	}
	return NULL;
}

const char *text_skip_damage(const char *p, const char *end, bool final, bool *ended)
{
	const char *start = p;

	/*
	 * Search in steps that double, so that finding something nearby never means searching all
	 * the text that follows.
	 */
	for (size_t step = 64; p < end; p += step, step *= 2) {
		const size_t rest = (size_t)(end - p), overlap = step + RECORD_START_SIZE - 1;
		const char *next =
			memmem(p, rest < overlap ? rest : overlap, RECORD_START, RECORD_START_SIZE);
		const char *stop = next ? next : rest < step ? end : p + step;
		const char *behind = behind_empty_line(p, stop, end);

		*ended = true;
		if (behind || next)
			return behind ? behind : next;
		if (rest <= step)
			break;
	}
	*ended = final;
	if (final)
		return end;
	return end - start < (ptrdiff_t)RECORD_START_SIZE ? start : end - RECORD_START_SIZE + 1;
}
