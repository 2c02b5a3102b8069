// SPDX-License-Identifier: MIT
/*
 * page_owner_text.c - parser of page_owner's text.
 */
#define _GNU_SOURCE
#include <string.h>

#include "text/page_owner_text.h"

#define PFN_LINE_MAX 4096	    /* no kernel prints one half as long */
#define HEAD_MAX (2 * PFN_LINE_MAX) /* header and PFN line, with some room */
/* comm and the times behind it: what a header's end is found by */
#define COMM_AHEAD 96
#define ORDER_MAX 51		  /* 2^51 pages are all that 64 bits can address */
#define LINE_MAX_BYTES (4u << 20) /* without a newline for so long, it is no text */
#define COMM_MAX (TASK_COMM_LEN - 1)

/* Step over a text that must stand at p; NULL if it does not, or if p is NULL. */
#define SKIP(p, end, text) skip(p, end, text, sizeof(text) - 1)

static inline const char *skip(const char *p, const char *end, const char *text, size_t size)
{
	return p && (size_t)(end - p) >= size && !memcmp(p, text, size) ? p + size : NULL;
}

/* A number as printf() writes it, without leading zeros, up to max; NULL if there is none. */
static inline const char *parse_number(const char *p, const char *end, u64 max, u64 *value)
{
	const char *start = p;
	u64 number = 0;
	unsigned int digit;

	*value = 0;
	if (!p)
		return NULL;
	for (; p < end && (digit = (unsigned char)*p - '0') < 10; p++)
		if (p - start < 19) /* fits */
			number = 10 * number + digit;
		else if (__builtin_mul_overflow(number, 10, &number) ||
			 __builtin_add_overflow(number, digit, &number))
			return NULL;
	if (p == start || number > max || (*start == '0' && p - start > 1))
		return NULL;
	*value = number;
	return p;
}

static inline const char *parse_pid(const char *p, const char *end, s32 *pid)
{
	bool negative = p && p < end && *p == '-';
	u64 number;

	p = parse_number(p ? p + negative : p, end, INT32_MAX, &number);
	*pid = negative ? -(s32)number : (s32)number;
	return negative && !number ? NULL : p;
}

static inline bool is_hex(char c)
{
	return (unsigned char)(c - '0') < 10 || (unsigned char)(c - 'a') < 6;
}

static inline const char *skip_hex(const char *p, const char *end)
{
	const char *start = p;

	while (p && p < end && is_hex(*p))
		p++;
	return p == start ? NULL : p;
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

/* The newline, with a carriage return or without. */
static inline const char *skip_newline(const char *p, const char *end)
{
	if (p && p < end && *p == '\r')
		p++;
	return p && p < end && *p == '\n' ? p + 1 : NULL;
}

/* Does the last record's text stand here, whole? */
static inline bool is_hinted(const char *p, const char *end, const char *text, size_t size,
			     char behind)
{
	return size && (size_t)(end - p) > size && p[size] == behind && !memcmp(p, text, size);
}

/* 0xcc0(GFP_KERNEL|__GFP_ZERO); the first kernels printed no names. */
static const char *parse_mask(const char *p, const char *end, struct text_hint *hint,
			      struct text_record *record)
{
	record->mask = p;
	if (p && is_hinted(p, end, hint->mask, hint->mask_size, ',')) {
		record->mask_size = hint->mask_size;
		return p + hint->mask_size;
	}
	p = skip_hex(SKIP(p, end, "0x"), end);
	if (p && p < end && *p == '(') {
		for (p++; p < end && (is_name(*p) || *p == '|'); p++)
			;
		p = SKIP(p, end, ")");
	}
	if (!p || p - record->mask > TEXT_MASK_MAX)
		return NULL;
	record->mask_size = (u32)(p - record->mask);
	hint->mask_size = record->mask_size <= sizeof(hint->mask) ? record->mask_size : 0;
	memcpy(hint->mask, record->mask, hint->mask_size);
	return p;
}

/* ", ts N ns", and what may follow, to the end of the line. */
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
 * "comm), ts ...": a comm may hold a shorter one's end, never a longer one's, so the longest wins.
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

static bool contains(const char *p, size_t size, const char *text, size_t text_size)
{
	for (; size >= text_size; p++, size--)
		if (*p == *text && !memcmp(p, text, text_size))
			return true;
	return false;
}

#define CONTAINS(p, size, text) contains(p, size, text, sizeof(text) - 1)

static bool has_control(const char *p, size_t size)
{
	for (; size; p++, size--)
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return true;
	return false;
}

/* In the kernels up to 4.5: " Block 8 type 1 Flags     l   ", and no more than that is sure. */
static bool parse_old_types(const char *p, const char *end)
{
	p = SKIP(p, end, " Block ");
	return p && memmem(p, (size_t)(end - p), " Flags ", 7) &&
	       !has_control(p, (size_t)(end - p));
}

/* "T Flags 0xF(names)", to end */
static bool parse_types(const char *p, const char *end)
{
	p = SKIP(skip_hex(SKIP(skip_name(p, end), end, " Flags 0x"), end), end, "(");
	return p && end[-1] == ')' && !has_control(p, (size_t)(end - p));
}

static const char *parse_pfn(const char *p, const char *end, u64 *pfn, u8 *fields)
{
	const char *digits = SKIP(p, end, "0x");

	if (!digits)
		return parse_number(p, end, UINT64_MAX, pfn);
	*fields |= TEXT_PFN_HEX;
	p = skip_hex(digits, end);
	if (!p || p - digits > 16)
		return NULL;
	for (*pfn = 0; digits < p; digits++)
		*pfn = *pfn << 4 | (u64)(*digits <= '9' ? *digits - '0' : *digits - 'a' + 10);
	return p;
}

/*
 * The PFN line at p, with its newline unless the text ends without; NULL: it is not one, or not
 * whole.
 */
static const char *parse_pfn_line(const char *p, const char *end, bool more, struct text_hint *hint,
				  struct text_record *record)
{
	const char *types,
		*next = parse_pfn(SKIP(p, end, "PFN "), end, &record->pfn, &record->fields), *eol;
	size_t size;
	u64 block;

	record->pfn_line = p;
	record->fields |= TEXT_HAS_PFN;
	types = SKIP(parse_number(SKIP(skip_name(SKIP(next, end, " type "), end), end, " Block "),
				  end, UINT64_MAX, &block),
		     end, " type ");
	if (types && is_hinted(types, end, hint->types, hint->types_size, '\n')) {
		record->allocator |= hint->allocator;
		record->pfn_line_size = (u32)(types + hint->types_size - p);
		return types + hint->types_size + 1;
	}
	eol = memchr(p, '\n', (size_t)(end - p));
	if (!next || (!eol && more))
		return NULL;
	if (!eol)
		eol = end;
	if (eol - p > PFN_LINE_MAX || memmem(p, (size_t)(eol - p), RECORD_START, RECORD_START_SIZE))
		return NULL;
	record->pfn_line_size = (u32)(eol - p - (eol[-1] == '\r'));
	if (types ? !parse_types(types, p + record->pfn_line_size)
		  : !parse_old_types(next, p + record->pfn_line_size))
		return NULL;
	next = types ? types : next;
	size = (size_t)(p + record->pfn_line_size - next);
	record->allocator |= (CONTAINS(next, size, "CMA") ? ALLOCATOR_CMA : 0) |
			     (CONTAINS(next, size, "slab") ? ALLOCATOR_SLAB : 0);
	hint->allocator = record->allocator;
	hint->types_size = types && size <= sizeof(hint->types) ? (u32)size : 0;
	memcpy(hint->types, next, hint->types_size);
	return eol < end ? eol + 1 : end;
}

static enum text_status damaged(struct text_record *record, const char *damage)
{
	record->damage = damage;
	return TEXT_DAMAGED;
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
	/* Whatever is wrong may be so because the text ends here. */
	const bool more = !final && size < HEAD_MAX;

	*record = (struct text_record){.start = p, .comm = "", .pfn_line = ""};
	if (p == end)
		return TEXT_MORE;
	if (memcmp(p, RECORD_START, size < RECORD_START_SIZE ? size : RECORD_START_SIZE))
		return more && size == 1 && *p == '\r' ? TEXT_MORE
						       : damaged(record, "no record begins here");
	p = parse_header(p, end, hint, record);
	if (!p)
		return more ? TEXT_MORE : damaged(record, "the header line is not one");
	/* The end of a longer comm may still come, or a PFN line. */
	if (!final &&
	    (end - p < 4 || (record->fields & TEXT_HAS_TGID && end - record->comm < COMM_AHEAD)))
		return TEXT_MORE;
	if (SKIP(p, end, "PFN")) {
		p = parse_pfn_line(p, end, more, hint, record);
		if (!p)
			return more ? TEXT_MORE : damaged(record, "the PFN line is not one");
	}
	record->stack = p;
	return TEXT_RECORD;
}

static bool is_utf8(const char *p, size_t size)
{
	while (size) {
		unsigned char c = (unsigned char)*p;
		size_t length = c < 0x80 ? 1 : c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : 2;

		if (length > size || (c >= 0x80 && c < 0xc2) || c >= 0xf5)
			return false;
		for (size_t i = 1; i < length; i++)
			if ((p[i] & 0xc0) != 0x80)
				return false;
		p += length;
		size -= length;
	}
	return true;
}

/* Nothing, or " [module]", to the end. */
static bool is_module_end(const char *p, const char *end)
{
	return p == end || (end - p > 3 && SKIP(p, end, " [") && end[-1] == ']');
}

/* " name+0xOFFSET/0xSIZE [module]" */
static bool is_symbol(const char *p, const char *end)
{
	while ((p = memmem(p, (size_t)(end - p), "+0x", 3))) {
		const char *next = skip_hex(SKIP(skip_hex(p + 3, end), end, "/0x"), end);

		if (next && is_module_end(next, end))
			return true;
		p += 3;
	}
	return false;
}

/* " 0xADDRESS", what has no symbol; in the first kernels " [<ADDRESS>] 0xADDRESS" */
static bool is_address(const char *p, const char *end)
{
	const char *old = SKIP(skip_hex(SKIP(p, end, " [<"), end), end, ">]");

	p = skip_hex(SKIP(old ? old : p, end, " 0x"), end);
	return p && is_module_end(p, end);
}

/* A line of another kind that is there to its last word. */
static bool is_whole_line(const char *p, const char *end)
{
	static const char migrated[] = "Page has been migrated, last migrate reason: ";
	const size_t size = (size_t)(end - p);
	u64 handle;

	return (size > sizeof(migrated) && SKIP(p, end, migrated)) ||
	       (size == 15 && SKIP(p, end, "Slab cache page")) ||
	       parse_number(SKIP(p, end, "handle: "), end, UINT32_MAX, &handle) == end ||
	       (SKIP(p, end, "Charged ") && CONTAINS(p, size - 1, "memcg ") && end[-1] != ' ');
}

/* What stands in the lines of one stack. */
struct lines {
	bool symbols; /* with offset and size */
	bool others;  /* that begin with a blank, too, but are neither symbol nor address */
};

/* Why a line behind the PFN line can't be one; NULL: it can. whole: it ends by a newline. */
static const char *check_line(const char *p, size_t size, bool whole, struct lines *lines)
{
	const char *end = p + size;

	/* The name of a cgroup may have any byte but NUL and newline. */
	if (SKIP(p, end, "Charged ") ? memchr(p, 0, size) != NULL : has_control(p, size))
		return "there is binary data in the lines of the stack";
	if (SKIP(p, end, "PFN"))
		return "there is a second PFN line";
	if (memmem(p, size, RECORD_START, RECORD_START_SIZE))
		return "another record begins inside of it";
	if (*p != ' ')
		return whole || is_whole_line(p, end) ? NULL : "it is cut off";
	if (!is_utf8(p, size))
		return "there is binary data in the lines of the stack";
	if (is_symbol(p, end))
		lines->symbols = true;
	else if (!whole && !is_address(p, end))
		return "it is cut off";
	else if (!is_address(p, end))
		lines->others = true;
	return lines->symbols && lines->others ? "a line of the stack is cut" : NULL;
}

enum text_status text_parse_stack(const char *end, bool final, struct text_record *record)
{
	const char *p = record->stack, *eol, *damage;
	struct lines lines = {0};

	for (;; p = eol + 1) {
		size_t size;

		eol = memchr(p, '\n', (size_t)(end - p));
		if (!eol && !final)
			return end - p <= LINE_MAX_BYTES ? TEXT_MORE
							 : damaged(record, "a line does not end");
		if (!eol && p == end && p == record->stack && !(record->fields & TEXT_HAS_PFN))
			return damaged(record, "it is cut off");
		size = (size_t)((eol ? eol : end) - p);
		if (size && p[size - 1] == '\r') {
			record->ragged = true;
			size--;
		}
		if (size) {
			damage = check_line(p, size, eol, &lines);
			if (damage)
				return damaged(record, damage);
		} else {
			record->stack_size = (size_t)(p - record->stack);
		}
		if (!eol && size) {
			record->ragged = true;
			record->stack_size = (size_t)(end - record->stack);
		}
		if (!eol || !size) {
			record->end = eol ? eol + 1 : end;
			return TEXT_RECORD;
		}
	}
}

/* Behind the first empty line whose line before ends in [p, stop); NULL: there is none. */
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
	 * In steps that double, so that finding something near never means to search all that
	 * follows.
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

size_t text_copy_stack(const struct text_record *record, char *out)
{
	const char *end = record->stack + record->stack_size;
	char *start = out;

	for (const char *p = record->stack; p < end; p++)
		if (*p != '\r' || (p + 1 < end && p[1] != '\n'))
			*out++ = *p;
	if (out > start && out[-1] != '\n')
		*out++ = '\n';
	return (size_t)(out - start);
}

/*
 * As get_allocator() in tools/mm/page_owner_sort.c: the caller of the first __vmalloc_node_range is
 * looked at.
 */
u8 text_stack_allocator(const char *stack, size_t size)
{
	const char *vmalloc = size ? memmem(stack, size, "__vmalloc_node_range", 20) : NULL,
		   *line = vmalloc;

	if (!vmalloc)
		return 0;
	for (int lines = 0; line > stack; line--)
		if (line[-1] == '\n' && ++lines == 2)
			break;
	return CONTAINS(line, (size_t)(vmalloc - line), "alloc_pages") ? ALLOCATOR_VMALLOC : 0;
}

/* The name in the first brackets of a line, "[ext4]"; its size, 0: none. */
static size_t line_module(const char *p, const char *eol, const char **module)
{
	while ((p = memchr(p, '[', (size_t)(eol - p)))) {
		const char *close = ++p;

		/* The first kernels printed addresses in brackets, too: [<ffffffff8115f4c1>] */
		while (close < eol && *close > ' ' && *close != '<' && *close != '[' &&
		       *close != ']')
			close++;
		if (close < eol && *close == ']' && close > p) {
			*module = p;
			return (size_t)(close - p);
		}
	}
	return 0;
}

size_t text_stack_module(const char *stack, size_t size, const char **module)
{
	const char *end = stack + size, *eol;

	/* The frames; in the lines behind a cgroup's name may have brackets, too. */
	for (const char *line = stack; line < end && *line == ' '; line = eol + 1) {
		eol = memchr(line, '\n', (size_t)(end - line));
		size = line_module(line, eol, module);
		if (size)
			return size;
	}
	return 0;
}
