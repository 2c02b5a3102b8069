/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_TEXT_CACHE_H
#define PAGEOWNERFS_TEXT_CACHE_H

#include "text/render.h"

#define TEXT_CACHE_SLOTS (1U << 16)

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
	u64 hash = (value + 1) * 0x9e3779b97f4a7c15ULL + (u64)kind * 0xff51afd7ed558ccdULL;

	return (u32)((hash ^ hash >> 29) * 0xbf58476d1ce4e5b9ULL >> 40) % TEXT_CACHE_SLOTS;
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

#endif
