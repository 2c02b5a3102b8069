// SPDX-License-Identifier: MIT
/*
 * string_table.c - byte strings kept once.
 */
#include <stdlib.h>

#include "base/string_table.h"

#define CHUNK_BYTES (64u << 10)

/* Texts are never moved: pointers to them stay. */
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

static bool grow_slots(struct strings *strings)
{
	u32 nr_slots = strings->nr_slots ? 2 * strings->nr_slots : 64;
	u32 *slots = calloc(nr_slots, sizeof(*slots));

	if (!slots)
		return false;
	for (u32 number = 0; number < strings->nr; number++) {
		u32 i = (u32)strings->items[number].hash;

		while (slots[i & (nr_slots - 1)])
			i++;
		slots[i & (nr_slots - 1)] = number + 1;
	}
	free(strings->slots);
	strings->slots = slots;
	strings->nr_slots = nr_slots;
	return true;
}

static bool grow_items(struct strings *strings)
{
	u32 max = strings->max ? 2 * strings->max : 32;
	struct string *items = realloc(strings->items, max * sizeof(*items));

	if (!items)
		return false;
	strings->items = items;
	strings->max = max;
	return true;
}

u32 strings_add(struct strings *strings, const char *text, size_t size)
{
	u64 hash = hash_string(strings, text, size);
	u32 number = strings_find(strings, text, size, hash), i = (u32)hash;
	char *copy;

	if (number != NO_STRING)
		return number;
	if (2 * (strings->nr + 1) > strings->nr_slots && !grow_slots(strings))
		return NO_STRING;
	if (strings->nr == strings->max && !grow_items(strings))
		return NO_STRING;
	copy = copy_text(strings, text, size);
	if (!copy)
		return NO_STRING;
	while (strings->slots[i & (strings->nr_slots - 1)])
		i++;
	strings->items[strings->nr] = (struct string){.text = copy, .size = size, .hash = hash};
	strings->slots[i & (strings->nr_slots - 1)] = strings->nr + 1;
	return strings->nr++;
}

void strings_free(struct strings *strings)
{
	struct chunk *next;

	for (struct chunk *chunk = strings->chunks; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	free(strings->slots);
	free(strings->items);
	*strings = (struct strings){0};
}
