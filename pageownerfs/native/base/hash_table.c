// SPDX-License-Identifier: MIT
/*
 * hash_table.c - a hash table of indexes.
 */
#include <stdlib.h>

#include "base/hash_table.h"

#define FIRST_SLOTS 64

static void put(struct hash_table *table, struct hash_slot slot)
{
	u32 i = slot.hash;

	while (table->slots[i & (table->nr_slots - 1)].number)
		i++;
	table->slots[i & (table->nr_slots - 1)] = slot;
}

bool hash_table_grow(struct hash_table *table)
{
	struct hash_table more = {.nr = table->nr,
				  .nr_slots = table->nr_slots ? 2 * table->nr_slots : FIRST_SLOTS};

	more.slots = more.nr_slots ? calloc(more.nr_slots, sizeof(*more.slots)) : NULL;
	if (!more.slots)
		return false;
	for (u32 i = 0; i < table->nr_slots; i++)
		if (table->slots[i].number)
			put(&more, table->slots[i]);
	free(table->slots);
	*table = more;
	return true;
}

void hash_table_insert(struct hash_table *table, u32 hash, u32 number)
{
	put(table, (struct hash_slot){.hash = hash, .number = number + 1});
	table->nr++;
}

void hash_table_free(struct hash_table *table)
{
	free(table->slots);
	*table = (struct hash_table){0};
}
