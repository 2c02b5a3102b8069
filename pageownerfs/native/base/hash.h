/* SPDX-License-Identifier: MIT */
/* Hash functions for integers and byte strings. */
#ifndef PAGEOWNERFS_HASH_H
#define PAGEOWNERFS_HASH_H

#include <stddef.h>
#include <string.h>

#include "base/types.h"

/*
 * The seed for untrusted input, such as the text of a dump. Address space layout randomization
 * makes it different in every process, so nobody can prepare input that collides.
 */
extern const char hash_seed[];
#define HASH_SEED ((u64)(uintptr_t)hash_seed)

/* Mix both words into all bits of the result: fold their 128-bit product. */
static inline u64 hash_mix(u64 a, u64 b)
{
	__uint128_t product = (__uint128_t)a * b;

	return (u64)product ^ (u64)(product >> 64);
}

static inline u32 hash_u64(u64 value, u64 seed)
{
	return (u32)hash_mix(value ^ 0xa0761d6478bd642full, seed ^ 0xe7037ed1a0b428dbull);
}

static inline u64 hash_word(const char *p)
{
	u64 word;

	memcpy(&word, p, sizeof(word));
	return word;
}

static inline u32 hash_bytes(const void *data, size_t size, u64 seed)
{
	const u64 k1 = 0xa0761d6478bd642full, k2 = 0xe7037ed1a0b428dbull;
	u64 hash = seed ^ hash_mix(size ^ k2, k1), a = 0, b = 0;
	const char *p = data;

	for (; size > 16; p += 16, size -= 16)
		hash = hash_mix(hash_word(p) ^ k1, hash_word(p + 8) ^ hash);
	if (size >= 8) {
		a = hash_word(p);
		b = hash_word(p + size - 8);
	} else {
		for (size_t i = 0; i < size; i++)
			a = a << 8 | (unsigned char)p[i];
	}
	return (u32)hash_mix(a ^ k1, b ^ hash);
}

#endif
