/* SPDX-License-Identifier: MIT */
/*
 * Numbers by hash, for whoever has an array of items: what is equal is for him to tell.
 *
 *	hash_for_each_possible(&table, number, hash)
 *		if (items[number] is the one)
 *			return number;
 *	if (!hash_table_reserve(&table))
 *		no memory
 *	items[nr] = the new one;
 *	hash_table_insert(&table, hash, nr++);
 *
 * Begins as zeroes. Open addressing; nothing is ever taken out.
 */
#ifndef PAGEOWNERFS_HASH_TABLE_H
#define PAGEOWNERFS_HASH_TABLE_H

#include <stdbool.h>

#include "base/types.h"

#define NO_NUMBER UINT32_MAX

struct hash_slot {
	u32 hash, number; /* number + 1; 0: the slot is empty */
};

struct hash_table {
	struct hash_slot *slots; /* nr_slots of them, a power of two */
	u32 nr, nr_slots;
};

/* The next number that was put in with this hash, from slot *at on; NO_NUMBER: no more. */
static inline u32 hash_table_next(const struct hash_table *table, u32 hash, u32 *at)
{
	const struct hash_slot *slot;

	if (!table->nr)
		return NO_NUMBER;
	do {
		slot = &table->slots[(*at)++ & (table->nr_slots - 1)];
		if (!slot->number)
			return NO_NUMBER;
	} while (slot->hash != hash);
	return slot->number - 1;
}

#define hash_for_each_possible(table, number, hash)                                                \
	for (u32 hash_at_ = (hash), number;                                                        \
	     (number = hash_table_next(table, hash, &hash_at_)) != NO_NUMBER;)

bool hash_table_grow(struct hash_table *table);

/* Room for one more; false: no memory. */
static inline bool hash_table_reserve(struct hash_table *table)
{
	/* Three quarters full at most. */
	return table->nr < table->nr_slots / 4 * 3 || hash_table_grow(table);
}

/* There must be room. */
void hash_table_insert(struct hash_table *table, u32 hash, u32 number);
void hash_table_free(struct hash_table *table);

#endif
