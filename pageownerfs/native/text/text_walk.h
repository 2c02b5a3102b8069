/* SPDX-License-Identifier: MIT */
/* Iterating over the records of a text, whatever is made of them. */
#ifndef PAGEOWNERFS_TEXT_WALK_H
#define PAGEOWNERFS_TEXT_WALK_H

#include "base/string_table.h"
#include "text/page_owner_text.h"

struct text_damage {
	u64 offset, record;
	const char *reason;
};

#define NR_DAMAGE 64 /* how many are described */

/* Starts zeroed. */
struct text_walk {
	struct text_hint hint;
	bool in_damage;
	u64 nr_bytes; /* that were read */
	u64 nr_seen;  /* records, good and damaged */
	u64 nr_damaged;
	struct text_damage damage[NR_DAMAGE];
};

struct text_walker {
	/* Like text_parse_stack(); *number is passed to add(), NO_STRING: no memory. */
	enum text_status (*find_stack)(void *self, const char *end, bool final,
				       struct text_record *record, u32 *number);
	/* What is wrong with a record; NULL: nothing. */
	const char *(*check)(const struct text_record *record);
	/* Take a record. False: no memory. */
	bool (*add)(void *self, const struct text_record *record, u32 number);
};

static inline void text_walk_damage(struct text_walk *walk, u64 offset, const char *reason)
{
	if (walk->nr_damaged < NR_DAMAGE)
		walk->damage[walk->nr_damaged] =
			(struct text_damage){offset, walk->nr_seen, reason};
	walk->nr_damaged++;
}

/*
 * Handle one record, or one stretch of damage, at *p and move *p past it. TEXT_MORE: neither is
 * complete.
 */
static inline enum text_status text_walk_one(struct text_walk *walk,
					     const struct text_walker *walker, void *self,
					     const char **p, const char *end, bool final,
					     u64 *offset)
{
	struct text_record record;
	const char *start = *p, *wrong;
	enum text_status status;
	u32 number = NO_STRING;
	bool ended;

	if (walk->in_damage) {
		*p = text_skip_damage(start, end, final, &ended);
		*offset += (u64)(*p - start);
		walk->in_damage = !ended;
		if (!ended)
			return TEXT_MORE;
		start = *p;
	}
	status = text_parse_head(p, end, final, &walk->hint, &record);
	*offset += (u64)(*p - start);
	if (status == TEXT_RECORD)
		status = walker->find_stack(self, end, final, &record, &number);
	if (status == TEXT_MORE)
		return status;
	if (status == TEXT_DAMAGED) {
		walk->nr_seen++;
		text_walk_damage(walk, *offset, record.damage);
		walk->in_damage = true;
		++*p;
		++*offset;
		return status;
	}
	wrong = walker->check ? walker->check(&record) : NULL;
	if (!wrong && (number == NO_STRING || !walker->add(self, &record, number)))
		return TEXT_NOMEM;
	walk->nr_seen++;
	if (wrong)
		text_walk_damage(walk, *offset, wrong);
	*offset += (u64)(record.end - *p);
	*p = record.end;
	return status;
}

/*
 * Handle all complete records. Returns the number of bytes used, or -1: no memory; nr_bytes then
 * has what was used. Unless final, the rest must be passed again with more text after it.
 */
static inline ptrdiff_t text_walk(struct text_walk *walk, const struct text_walker *walker,
				  void *self, const char *text, size_t size, bool final)
{
	enum text_status status = TEXT_RECORD;
	const char *p = text, *end = text + size;
	u64 offset = walk->nr_bytes;

	while (p < end && status != TEXT_MORE && status != TEXT_NOMEM)
		status = text_walk_one(walk, walker, self, &p, end, final, &offset);
	walk->nr_bytes += (u64)(p - text);
	return status == TEXT_NOMEM ? -1 : p - text;
}

#endif
