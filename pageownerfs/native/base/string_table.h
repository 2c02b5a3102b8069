/* SPDX-License-Identifier: MIT */
/* Byte strings kept once, numbered from 0 in the order in which they were first seen. */
#ifndef PAGEOWNERFS_STRING_TABLE_H
#define PAGEOWNERFS_STRING_TABLE_H

#include <stdbool.h>
#include <string.h>

#include "base/page_owner.h"

#define NO_STRING UINT32_MAX

struct string {
	const char *text;
	size_t size;
	u64 hash;
};

struct strings {
	struct string *items;
	u32 *slots;	      /* number + 1, 0 = empty; nr_slots is a power of two */
	struct chunk *chunks; /* hold the texts */
	u32 nr, max, nr_slots;
};

static inline u64 hash_mix(u64 a, u64 b)
{
	__uint128_t product = (__uint128_t)a * b;

	return (u64)product ^ (u64)(product >> 64);
}

static inline u64 hash_word(const char *p)
{
	u64 word;

	memcpy(&word, p, sizeof(word));
	return word;
}

/*
 * Of 128-bit products, 16 bytes at a time; seeded, so that nobody can prepare texts that collide.
 */
static inline u64 hash_bytes(const char *p, size_t size, u64 seed)
{
	const u64 k1 = 0xa0761d6478bd642full, k2 = 0xe7037ed1a0b428dbull;
	u64 hash = seed ^ hash_mix(size ^ k2, k1), a = 0, b = 0;

	for (; size > 16; p += 16, size -= 16)
		hash = hash_mix(hash_word(p) ^ k1, hash_word(p + 8) ^ hash);
	if (size >= 8) {
		a = hash_word(p);
		b = hash_word(p + size - 8);
	} else {
		for (size_t i = 0; i < size; i++)
			a = a << 8 | (unsigned char)p[i];
	}
	return hash_mix(a ^ k1, b ^ hash) ^ k2;
}

static inline u64 hash_string(const struct strings *strings, const char *text, size_t size)
{
	return hash_bytes(text, size, (u64)(uintptr_t)strings ^ 0x9e3779b97f4a7c15ull);
}

/* Its number, or NO_STRING. */
static inline u32 strings_find(const struct strings *strings, const char *text, size_t size,
			       u64 hash)
{
	if (!strings->nr)
		return NO_STRING;
	for (u32 i = (u32)hash;; i++) {
		u32 number = strings->slots[i & (strings->nr_slots - 1)];
		const struct string *string;

		if (!number)
			return NO_STRING;
		string = &strings->items[number - 1];
		if (string->hash == hash && string->size == size &&
		    !memcmp(string->text, text, size))
			return number - 1;
	}
}

/* Its number, that of a copy if it is new; NO_STRING: out of memory. */
u32 strings_add(struct strings *strings, const char *text, size_t size);
void strings_free(struct strings *strings);

static inline bool string_equals(const struct string *string, const char *text, size_t size)
{
	return string->size == size && !memcmp(string->text, text, size);
}

/* As strcmp(): bytes without a sign, a string before those that it begins. */
static inline int string_compare(const struct string *a, const struct string *b)
{
	int result = memcmp(a->text, b->text, a->size < b->size ? a->size : b->size);

	return result ? result : (a->size > b->size) - (a->size < b->size);
}

#endif
