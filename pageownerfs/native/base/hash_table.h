/* SPDX-License-Identifier: MIT */
/*
 * Maps hashes to indexes into an array that the caller owns. The caller compares the items.
 *
 *	hash_for_each_possible(&table, number, hash)
 *		if (items[number] equals key)
 *			return number;
 *	if (!hash_table_reserve(&table))
 *		return -ENOMEM;
 *	items[nr] = key;
 *	hash_table_insert(&table, hash, nr++);
 *
 * A table starts zeroed. It uses open addressing; entries are never removed.
 */
#ifndef PAGEOWNERFS_HASH_TABLE_H
#define PAGEOWNERFS_HASH_TABLE_H

#include <stdbool.h>

#include "base/types.h"

#define NO_NUMBER UINT32_MAX

struct hash_slot {
	u32 hash, number; /* number + 1, or 0 if the slot is empty */
};

struct hash_table {
	struct hash_slot *slots; /* nr_slots entries, a power of two */
	u32 nr, nr_slots;
};

/* The next number inserted with this hash, searching from slot *at on; NO_NUMBER at the end. */
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

/* Make room for one more entry; false if out of memory. */
static inline bool hash_table_reserve(struct hash_table *table)
{
	/* Keep the table at most three quarters full. */
	return table->nr < table->nr_slots / 4 * 3 || hash_table_grow(table);
}

/* The caller has reserved room. */
void hash_table_insert(struct hash_table *table, u32 hash, u32 number);
void hash_table_free(struct hash_table *table);

#endif
