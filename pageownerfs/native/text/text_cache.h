/* SPDX-License-Identifier: MIT */
/*
 * A cache of texts by value: how a gfp mask, page flags or a stack print. Insert-only and read
 * without a lock: a slot is empty, or has its text for good. A full cache is replaced by an empty
 * one.
 */
#ifndef PAGEOWNERFS_TEXT_CACHE_H
#define PAGEOWNERFS_TEXT_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/hash.h"
#include "base/put.h"

#define TEXT_CACHE_SLOTS (1U << 16)

/* The kinds of text that records are made of; the numbers match TEXT_* in Python. */
enum text_kind {
	TEXT_GFP,
	TEXT_FLAGS, /* only the names of the flags: see flags_text.h */
	TEXT_STACK,
	TEXT_MIGRATE_REASON,
	TEXT_MIGRATETYPE,
	TEXT_MEMCG, /* whole lines, like TEXT_STACK; the others are words */
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

/* NULL: not in the cache. */
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
/* Only one thread may add at a time. False: no memory. */
bool text_cache_add(struct text_cache *cache, enum text_kind kind, u64 value, const char *text,
		    size_t size);

#endif
