/* SPDX-License-Identifier: MIT */
/*
 * Formatting into a buffer that the caller has made large enough: put_*() return the end of what
 * they wrote, *_size() how many bytes they would write.
 */
#ifndef PAGEOWNERFS_PUT_H
#define PAGEOWNERFS_PUT_H

#include <string.h>

#include "base/types.h"

static const char digit_pairs[] =
	"00010203040506070809101112131415161718192021222324252627282930313233343536373839"
	"40414243444546474849505152535455565758596061626364656667686970717273747576777879"
	"8081828384858687888990919293949596979899";

static inline unsigned int dec_size(u64 value)
{
	unsigned int size = 1;

	for (; value >= 10000; value /= 10000)
		size += 4;
	return size + (value >= 10) + (value >= 100) + (value >= 1000);
}

static inline char *put_dec(char *out, u64 value)
{
	char *end = out + dec_size(value), *p = end;

	while (value >= 100) {
		p -= 2;
		memcpy(p, digit_pairs + value % 100 * 2, 2);
		value /= 100;
	}
	if (value >= 10)
		memcpy(p - 2, digit_pairs + value * 2, 2);
	else
		p[-1] = (char)('0' + value);
	return end;
}

/* The kernel prints pids as signed numbers, too. */
static inline unsigned int int_size(s32 value)
{
	return value < 0 ? 1 + dec_size(-(u64)(long long)value) : dec_size((u64)value);
}

static inline char *put_int(char *out, s32 value)
{
	if (value < 0) {
		*out++ = '-';
		return put_dec(out, -(u64)(long long)value);
	}
	return put_dec(out, (u64)value);
}

static inline unsigned int hex_size(u64 value)
{
	return value ? (67U - (unsigned int)__builtin_clzll(value)) / 4 : 1;
}

static inline char *put_hex(char *out, u64 value)
{
	char *end = out + hex_size(value);

	for (char *p = end; p > out; value >>= 4)
		*--p = "0123456789abcdef"[value & 15];
	return end;
}

#define put_literal(out, literal)                                                                  \
	((char *)memcpy((out), (literal), sizeof(literal) - 1) + sizeof(literal) - 1)

static inline char *put_bytes(char *out, const char *text, size_t size)
{
	return (char *)memcpy(out, text, size) + size;
}

#endif
