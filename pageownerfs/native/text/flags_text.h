/* SPDX-License-Identifier: MIT */
/*
 * The text of page flags, "0x17ffffc0000040(head|node=0|zone=2|lastcpupid=0x1fffff)", in parts: a
 * kernel prints few different sets of names, but a field may have any value. Mirrors
 * format_page_flags() of lib/vsprintf.c.
 */
#ifndef PAGEOWNERFS_FLAGS_TEXT_H
#define PAGEOWNERFS_FLAGS_TEXT_H

#include <stdbool.h>

#include "base/put.h"

#define FLAG_FIELDS 8
#define FLAG_FIELD_NAME_MAX 31
#define FLAG_FIELDS_MAX (FLAG_FIELDS * (FLAG_FIELD_NAME_MAX + sizeof("|=18446744073709551615")))

/* How a kernel lays out page->flags: pff[] of lib/vsprintf.c. */
struct flags_layout {
	u64 names_mask; /* the bits that have names */
	u32 nr_fields;
	struct flags_field {
		char name[FLAG_FIELD_NAME_MAX + 1];
		u8 name_size, shift, width;
		bool hex;
	} fields[FLAG_FIELDS]; /* in the order they are printed */
};

struct flags_text {
	u64 word;
	const char *names, *fields; /* "head|lru", "node=0|zone=1" */
	size_t names_size, fields_size;
};

/* Write the fields of a word to out, which has FLAG_FIELDS_MAX bytes; returns their size. */
static inline size_t put_flag_fields(const struct flags_layout *layout, u64 word, char *out)
{
	char *start = out;

	for (u32 i = 0; i < layout->nr_fields; i++) {
		const struct flags_field *field = &layout->fields[i];
		u64 value = word >> field->shift & (~0ULL >> (64 - field->width));

		if (i)
			*out++ = '|';
		out = put_bytes(out, field->name, field->name_size);
		*out++ = '=';
		if (field->hex)
			out = put_hex(put_literal(out, "0x"), value);
		else
			out = put_dec(out, value);
	}
	return (size_t)(out - start);
}

static inline size_t flags_size(const struct flags_text *flags)
{
	return sizeof("0x()") - 1 + hex_size(flags->word) + flags->names_size +
	       (flags->names_size && flags->fields_size) + flags->fields_size;
}

static inline char *put_flags(char *out, const struct flags_text *flags)
{
	out = put_hex(put_literal(out, "0x"), flags->word);
	*out++ = '(';
	out = put_bytes(out, flags->names, flags->names_size);
	if (flags->names_size && flags->fields_size)
		*out++ = '|';
	out = put_bytes(out, flags->fields, flags->fields_size);
	*out++ = ')';
	return out;
}

static inline bool same_flags(const struct flags_text *a, const struct flags_text *b)
{
	/* Compare the sizes too: an empty text may have the address of the next one. */
	return a->word == b->word && a->names == b->names && a->names_size == b->names_size &&
	       a->fields == b->fields && a->fields_size == b->fields_size;
}

#endif
