/* SPDX-License-Identifier: MIT */
/* Stacks that were met before need not be parsed again: the same text is looked for. */
#ifndef PAGEOWNERFS_KNOWN_STACKS_H
#define PAGEOWNERFS_KNOWN_STACKS_H

#include <stdlib.h>

#include "base/string_table.h"
#include "text/stack_text.h"

/* Is this the stack that stands at text, with an empty line behind? */
static inline bool stack_is(const struct strings *stacks, u32 number, const char *text,
			    const char *end)
{
	const struct string *stack = &stacks->items[number];

	return (size_t)(end - text) > stack->size && text[stack->size] == '\n' &&
	       !memcmp(text, stack->text, stack->size);
}

/* The number of a stack that is known already, up to the first empty line; NO_STRING: it is not. */
static inline u32 find_known_stack(const struct strings *stacks, const char *text, const char *end)
{
	const char *p = text;

	for (; p < end && *p != '\n'; p++) {
		/*
		 * No further: without an empty line all text that follows would be searched, for
		 * each record.
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
 * The stack of a record: often that of its neighbour, or what came behind that the last time; or
 * else it is parsed and added. last, next: numbers of those two. *number: NO_STRING if there is no
 * memory.
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
