// SPDX-License-Identifier: MIT
/*
 * text_cache.c - a cache of texts by value.
 */
#include <stdlib.h>
#include <string.h>

#include "text/text_cache.h"

#define MAX_BYTES (12UL << 20)
#define MAX_TEXTS (TEXT_CACHE_SLOTS / 2)

struct text_cache *text_cache_new(void)
{
	struct text_cache *cache = calloc(1, sizeof(*cache));

	if (cache)
		atomic_init(&cache->refs, 1);
	return cache;
}

struct text_cache *text_cache_get(struct text_cache *cache)
{
	atomic_fetch_add(&cache->refs, 1);
	return cache;
}

void text_cache_put(struct text_cache *cache)
{
	if (!cache || atomic_fetch_sub(&cache->refs, 1) != 1)
		return;
	for (u32 i = 0; i < TEXT_CACHE_SLOTS; i++)
		free(atomic_load_explicit(&cache->slots[i], memory_order_relaxed));
	free(cache);
}

bool text_cache_full(const struct text_cache *cache)
{
	return cache->bytes >= MAX_BYTES || cache->nr_texts >= MAX_TEXTS;
}

bool text_cache_add(struct text_cache *cache, enum text_kind kind, u64 value, const char *data,
		    size_t size)
{
	struct text *text;
	u32 i = text_hash(kind, value);

	while ((text = atomic_load_explicit(&cache->slots[i], memory_order_relaxed))) {
		if (text->kind == kind && text->value == value)
			return true; /* another thread added it in the meantime */
		i = (i + 1) % TEXT_CACHE_SLOTS;
	}
	text = malloc(sizeof(*text) + size);
	if (!text)
		return false;
	text->value = value;
	text->kind = kind;
	text->size = (u32)size;
	memcpy(text->data, data, size);
	atomic_store_explicit(&cache->slots[i], text, memory_order_release);
	cache->nr_texts++;
	cache->bytes += sizeof(*text) + size;
	return true;
}
