/* SPDX-License-Identifier: MIT */
/* Parsing primitives that the head and stack parsers share. */
#ifndef PAGEOWNERFS_TEXT_STEPS_H
#define PAGEOWNERFS_TEXT_STEPS_H

#include "text/page_owner_text.h"

/* Skip a text that must be at p. NULL if it is not, or if p is NULL. */
#define SKIP(p, end, text) skip(p, end, text, sizeof(text) - 1)

static inline const char *skip(const char *p, const char *end, const char *text, size_t size)
{
	return p && (size_t)(end - p) >= size && !memcmp(p, text, size) ? p + size : NULL;
}

/*
 * Parse a number as printf() writes it: without leading zeros, and up to max. NULL if there is
 * none.
 */
static inline const char *parse_number(const char *p, const char *end, u64 max, u64 *value)
{
	const char *start = p;
	u64 number = 0;
	unsigned int digit;

	*value = 0;
	if (!p)
		return NULL;
	for (; p < end && (digit = (unsigned char)*p - '0') < 10; p++)
		if (p - start < 19) /* cannot overflow */
			number = 10 * number + digit;
		else if (__builtin_mul_overflow(number, 10, &number) ||
			 __builtin_add_overflow(number, digit, &number))
			return NULL;
	if (p == start || number > max || (*start == '0' && p - start > 1))
		return NULL;
	*value = number;
	return p;
}

static inline bool is_hex(char c)
{
	return (unsigned char)(c - '0') < 10 || (unsigned char)(c - 'a') < 6;
}

/* Parse a hexadecimal number and return its low 64 bits. NULL if there is none. */
static inline const char *parse_hex(const char *p, const char *end, u64 *value)
{
	const char *start = p;

	*value = 0;
	for (; p && p < end && is_hex(*p); p++)
		*value = *value << 4 | (u64)(*p <= '9' ? *p - '0' : *p - 'a' + 10);
	return p == start ? NULL : p;
}

static inline const char *skip_hex(const char *p, const char *end)
{
	u64 value;

	return parse_hex(p, end, &value);
}

/* Skip a newline, with or without a carriage return. */
static inline const char *skip_newline(const char *p, const char *end)
{
	if (p && p < end && *p == '\r')
		p++;
	return p && p < end && *p == '\n' ? p + 1 : NULL;
}

static inline bool contains(const char *p, size_t size, const char *text, size_t text_size)
{
	for (; size >= text_size; p++, size--)
		if (*p == *text && !memcmp(p, text, text_size))
			return true;
	return false;
}

#define CONTAINS(p, size, text) contains(p, size, text, sizeof(text) - 1)

static inline bool has_control(const char *p, size_t size)
{
	for (; size; p++, size--)
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return true;
	return false;
}

static inline enum text_status damaged(struct text_record *record, const char *damage)
{
	record->damage = damage;
	return TEXT_DAMAGED;
}

#endif
