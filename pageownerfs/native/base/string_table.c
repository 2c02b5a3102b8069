// SPDX-License-Identifier: MIT
/*
 * string_table.c - a set of byte strings.
 */
#include <stdlib.h>

#include "base/string_table.h"
#include "base/vector.h"

#define CHUNK_BYTES (64u << 10)

/* Texts never move, so pointers to them stay valid. */
struct chunk {
	struct chunk *next;
	size_t used, size;
	char text[];
};

static char *copy_text(struct strings *strings, const char *text, size_t size)
{
	struct chunk *chunk = strings->chunks;
	char *copy;

	if (!chunk || chunk->size - chunk->used < size) {
		size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;

		chunk = malloc(sizeof(*chunk) + room);
		if (!chunk)
			return NULL;
		*chunk = (struct chunk){.next = strings->chunks, .size = room};
		strings->chunks = chunk;
	}
	copy = chunk->text + chunk->used;
	chunk->used += size;
	return memcpy(copy, text, size);
}

u32 strings_add(struct strings *strings, const char *text, size_t size)
{
	u32 hash = hash_bytes(text, size, HASH_SEED);
	char *copy;

	hash_for_each_possible (&strings->numbers, number, hash)
		if (string_equals(&strings->items[number], text, size))
			return number;
	if (!hash_table_reserve(&strings->numbers) ||
	    !vector_reserve(strings->items, strings->nr, &strings->room))
		return NO_STRING;
	copy = copy_text(strings, text, size);
	if (!copy)
		return NO_STRING;
	strings->items[strings->nr] = (struct string){.text = copy, .size = size};
	hash_table_insert(&strings->numbers, hash, strings->nr);
	return strings->nr++;
}

void strings_free(struct strings *strings)
{
	struct chunk *next;

	for (struct chunk *chunk = strings->chunks; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	hash_table_free(&strings->numbers);
	free(strings->items);
	*strings = (struct strings){0};
}
