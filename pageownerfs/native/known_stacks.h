/* SPDX-License-Identifier: MIT */
/* Stacks that were met before need not be parsed again: the same text is looked for. */
#ifndef PAGEOWNERFS_KNOWN_STACKS_H
#define PAGEOWNERFS_KNOWN_STACKS_H

#include "page_owner_text.h"
#include "string_table.h"

/* Is this the stack that stands at text, with an empty line behind? */
static inline bool stack_is(const struct strings *stacks, u32 number, const char *text, const char *end)
{
	const struct string *stack = &stacks->items[number];

	return (size_t)(end - text) > stack->size && text[stack->size] == '\n' && !memcmp(text, stack->text, stack->size);
}

/* The number of a stack that is known already, up to the first empty line; NO_STRING: it is not. */
static inline u32 find_known_stack(const struct strings *stacks, const char *text, const char *end)
{
	const char *p = text;

	for (; p < end && *p != '\n'; p++) {
		/* No further: without an empty line all text that follows would be searched, for each record. */
		if (text_is_start(p, end))
			return NO_STRING;
		p = memchr(p, '\n', (size_t)(end - p));
		if (!p || p[-1] == '\r')
			return NO_STRING;
	}
	return p == end ? NO_STRING :
			  strings_find(stacks, text, (size_t)(p - text), hash_string(stacks, text, (size_t)(p - text)));
}

#endif
