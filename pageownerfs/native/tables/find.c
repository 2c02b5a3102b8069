// SPDX-License-Identifier: MIT
/*
 * find.c - iterating over the records of a table.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/vector.h"
#include "tables/find.h"

#define LOOK_AHEAD_NSEC 100000000 /* how long a lookup is used */
#define NR_HEADS 128		  /* read in one go */
#define HEADS_PLACES (1ULL << 16) /* between two looks at the gate */

void cursor_init(struct cursor *cursor, const struct table *table)
{
	*cursor = (struct cursor){.table = table, .at = table->start, .mapped = table->start};
}

void cursor_free(struct cursor *cursor)
{
	free(cursor->ahead);
}

void cursor_forget_old(struct cursor *cursor)
{
	struct lookahead *ahead = cursor->ahead;

	if (ahead && ktime_get_ns() - ahead->asked_nsec > LOOK_AHEAD_NSEC)
		ahead->nr = 0;
}

static bool has_pid(const s32 *pids, u32 nr, s32 pid)
{
	for (u32 i = 0; i < nr; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

static bool wants_process(const struct record_filter *filter, const struct page_owner *owner)
{
	return has_pid(filter->pids, filter->nr_pids, owner->pid) ||
	       has_pid(filter->tgids, filter->nr_tgids, owner->tgid);
}

int next_record(struct cursor *cursor, const struct record_filter *filter, struct record *record,
		u32 nr)
{
	const struct table *table = cursor->table;

	for (;
	     next_owner(table, table->ops->next, table->ops->copy, &cursor->at, table->end, record);
	     cursor->at = next_place(table, record)) {
		if (unlikely(filter->by_process && !wants_process(filter, &record->owner)))
			continue;
		if (!table->ops->info(table, record, &cursor->ahead, nr))
			return -1;
		if (likely(!filter->by_nid ||
			   filter->nids[record->nid / 64] >> record->nid % 64 & 1))
			return 1;
	}
	return 0;
}

/* Add PFNs, until there are max in all; false: no memory. */
static bool add_heads(struct heads *heads, const struct head *found, u32 nr, u64 max, bool early)
{
	for (u32 i = 0; i < nr && heads->nr < max; i++) {
		if (!early && found[i].state & PAGE_EXT_OWNER_EARLY)
			continue;
		if (!vector_reserve(heads->pfns, heads->nr, &heads->room))
			return false;
		heads->pfns[heads->nr++] = found[i].pfn;
	}
	return true;
}

bool find_heads(const struct table *table, u64 pfn, u64 max, bool early, struct heads *heads)
{
	u64 at = table->ops->seek(table, pfn), mapped = at;
	struct head found[NR_HEADS];

	while (at < table->end && heads->nr < max && !table_is_empty(table)) {
		u64 end = table->end - at < HEADS_PLACES ? table->end : at + HEADS_PLACES;
		u32 nr = table->ops->heads(table, &at, end, found, NR_HEADS);

		if (!add_heads(heads, found, nr, max, early))
			return false;
		unmap_behind(table, &mapped, at);
	}
	return true;
}
