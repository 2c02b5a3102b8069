// SPDX-License-Identifier: MIT
/*
 * stack_text.c - parser of the lines after a record's PFN line: the stack and others.
 */
#define _GNU_SOURCE
#include <string.h>

#include "text/stack_text.h"
#include "text/text_steps.h"

#define LINE_MAX_BYTES (4u << 20) /* a longer line is not text */

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

/* Nothing or " [module]", up to the end. */
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

/* " 0xADDRESS", a frame without a symbol; in the first kernels " [<ADDRESS>] 0xADDRESS" */
static bool is_address(const char *p, const char *end)
{
	const char *old = SKIP(skip_hex(SKIP(p, end, " [<"), end), end, ">]");

	p = skip_hex(SKIP(old ? old : p, end, " 0x"), end);
	return p && is_module_end(p, end);
}

/* Is this one of the other lines, complete to its last word? */
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

/* The kinds of lines seen in one stack. */
struct lines {
	bool symbols; /* with offset and size */
	bool others;  /* that begin with a blank but are neither symbol nor address */
};

/* What is wrong with a line after the PFN line; NULL: nothing. whole: it ends with a newline. */
static const char *check_line(const char *p, size_t size, bool whole, struct lines *lines)
{
	const char *end = p + size;

	/* The name of a cgroup may contain any byte but NUL and newline. */
	if (SKIP(p, end, "Charged ") ? memchr(p, 0, size) != NULL : has_control(p, size))
		return "binary data in the stack";
	if (SKIP(p, end, "PFN"))
		return "a second PFN line";
	if (memmem(p, size, RECORD_START, RECORD_START_SIZE))
		return "another record begins inside it";
	if (*p != ' ')
		return whole || is_whole_line(p, end) ? NULL : "the record is truncated";
	if (!is_utf8(p, size))
		return "binary data in the stack";
	if (is_symbol(p, end))
		lines->symbols = true;
	else if (!whole && !is_address(p, end))
		return "the record is truncated";
	else if (!is_address(p, end))
		lines->others = true;
	return lines->symbols && lines->others ? "a stack line is truncated" : NULL;
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
							 : damaged(record, "a line is too long");
		if (!eol && p == end && p == record->stack && !(record->fields & TEXT_HAS_PFN))
			return damaged(record, "the record is truncated");
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
 * Like get_allocator() in tools/mm/page_owner_sort.c: look at the caller of the first
 * __vmalloc_node_range.
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

/* The name in the first brackets of a line, "[ext4]". Returns its size; 0: none. */
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

	/*
	 * Only the frames: the lines after them may have brackets, too, as in the name of a cgroup.
	 */
	for (const char *line = stack; line < end && *line == ' '; line = eol + 1) {
		eol = memchr(line, '\n', (size_t)(end - line));
		size = line_module(line, eol, module);
		if (size)
			return size;
	}
	return 0;
}
