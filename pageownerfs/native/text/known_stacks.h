/* SPDX-License-Identifier: MIT */
/* Recognizing stacks that were parsed before, by comparing the text. */
#ifndef PAGEOWNERFS_KNOWN_STACKS_H
#define PAGEOWNERFS_KNOWN_STACKS_H

#include <stdlib.h>

#include "base/string_table.h"
#include "text/stack_text.h"

/* Is this the stack at text, followed by an empty line? */
static inline bool stack_is(const struct strings *stacks, u32 number, const char *text,
			    const char *end)
{
	const struct string *stack = &stacks->items[number];

	return (size_t)(end - text) > stack->size && text[stack->size] == '\n' &&
	       !memcmp(text, stack->text, stack->size);
}

/* The number of a known stack, which ends at the first empty line; NO_STRING: it is not known. */
static inline u32 find_known_stack(const struct strings *stacks, const char *text, const char *end)
{
	const char *p = text;

	for (; p < end && *p != '\n'; p++) {
		/*
		 * Stop here. Without an empty line, each record would search all of the text that
		 * follows.
		 */
		if (text_is_start(p, end))
			return NO_STRING;
		p = memchr(p, '\n', (size_t)(end - p));
		if (!p || p[-1] == '\r')
			return NO_STRING;
	}
	return p == end ? NO_STRING : strings_find(stacks, text, (size_t)(p - text));
}

/*
 * Find the stack of a record. Often it is that of the previous record (last), or the one that
 * followed that stack last time (next). A new stack is parsed and added. *number: NO_STRING if
 * there is no memory.
 */
static inline enum text_status
find_or_add_stack(const struct strings *stacks, u32 last, u32 next, const char *end, bool final,
		  struct text_record *record, u32 *number,
		  u32 (*add)(void *self, const char *text, size_t size), void *self)
{
	enum text_status status;

	*number = NO_STRING;
	if (stacks->nr) {
		if (stack_is(stacks, next, record->stack, end))
			*number = next;
		else if (stack_is(stacks, last, record->stack, end))
			*number = last;
		else
			*number = find_known_stack(stacks, record->stack, end);
	}
	if (*number != NO_STRING) {
		record->stack_size = stacks->items[*number].size;
		record->end = record->stack + record->stack_size + 1;
		return TEXT_RECORD;
	}
	status = text_parse_stack(end, final, record);
	if (status != TEXT_RECORD)
		return status;
	if (record->ragged) {
		char *copy = malloc(record->stack_size + 1);

		*number = copy ? add(self, copy, text_copy_stack(record, copy)) : NO_STRING;
		free(copy);
	} else {
		*number = add(self, record->stack, record->stack_size);
	}
	return TEXT_RECORD;
}

#endif
