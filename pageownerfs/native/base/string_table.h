/* SPDX-License-Identifier: MIT */
/* A set of byte strings, numbered from 0 in the order of their first insertion. */
#ifndef PAGEOWNERFS_STRING_TABLE_H
#define PAGEOWNERFS_STRING_TABLE_H

#include <stdbool.h>
#include <string.h>

#include "base/hash.h"
#include "base/hash_table.h"

#define NO_STRING NO_NUMBER

struct string {
	const char *text;
	size_t size;
};

struct strings {
	struct string *items;
	struct hash_table numbers;
	struct chunk *chunks; /* storage of the texts */
	u32 nr, room;
};

static inline bool string_equals(const struct string *string, const char *text, size_t size)
{
	return string->size == size && !memcmp(string->text, text, size);
}

/* The number of a string; NO_STRING if it is not in the table. */
static inline u32 strings_find(const struct strings *strings, const char *text, size_t size)
{
	u32 hash = hash_bytes(text, size, HASH_SEED);

	hash_for_each_possible (&strings->numbers, number, hash)
		if (string_equals(&strings->items[number], text, size))
			return number;
	return NO_STRING;
}

/*
 * The number of a string, which is copied into the table if it is new; NO_STRING if out of memory.
 */
u32 strings_add(struct strings *strings, const char *text, size_t size);
void strings_free(struct strings *strings);

/* Orders like strcmp(): by unsigned bytes, and a prefix before the strings it begins. */
static inline int string_compare(const struct string *a, const struct string *b)
{
	int result = memcmp(a->text, b->text, a->size < b->size ? a->size : b->size);

	return result ? result : (a->size > b->size) - (a->size < b->size);
}

#endif
