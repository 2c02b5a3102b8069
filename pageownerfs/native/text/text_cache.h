/* SPDX-License-Identifier: MIT */
/*
 * Texts by value: what a gfp mask, page flags, a stack look like in print. Insert-only, read
 * without a lock: a slot is empty, or has its text for good. Replaced by an empty one when it is
 * full.
 */
#ifndef PAGEOWNERFS_TEXT_CACHE_H
#define PAGEOWNERFS_TEXT_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/hash.h"
#include "base/put.h"

#define TEXT_CACHE_SLOTS (1U << 16)

/* The texts that records are joined from; the same numbers as TEXT_* in Python. */
enum text_kind {
	TEXT_GFP,
	TEXT_FLAGS, /* the names of the flags alone: see flags_text.h */
	TEXT_STACK,
	TEXT_MIGRATE_REASON,
	TEXT_MIGRATETYPE,
	TEXT_MEMCG, /* whole lines, others are words; but for TEXT_STACK */
	NR_TEXT_KINDS
};

struct text {
	u64 value;
	u32 kind, size;
	char data[];
};

struct text_cache {
	_Atomic u32 refs;
	u32 nr_texts;
	size_t bytes;
	_Atomic(struct text *) slots[TEXT_CACHE_SLOTS];
};

static inline u32 text_hash(enum text_kind kind, u64 value)
{
	return hash_u64(value, HASH_SEED + kind) % TEXT_CACHE_SLOTS;
}

/* NULL: not there yet. */
static inline const struct text *text_find(const struct text_cache *cache, enum text_kind kind,
					   u64 value)
{
	u32 i = text_hash(kind, value);
	const struct text *text;

	while ((text = atomic_load_explicit(&cache->slots[i], memory_order_acquire))) {
		if (text->value == value && text->kind == kind)
			return text;
		i = (i + 1) % TEXT_CACHE_SLOTS;
	}
	return NULL;
}

static inline char *put_text(char *out, const struct text *text)
{
	return put_bytes(out, text->data, text->size);
}

struct text_cache *text_cache_new(void);
struct text_cache *text_cache_get(struct text_cache *cache);
void text_cache_put(struct text_cache *cache);
bool text_cache_full(const struct text_cache *cache);
/* One thread at a time. False: no memory. */
bool text_cache_add(struct text_cache *cache, enum text_kind kind, u64 value, const char *text,
		    size_t size);

#endif
