// SPDX-License-Identifier: MIT
/*
 * page_states.c - counts pages by state.
 */
#include "tables/page_states.h"

void count_page_states(const struct table *table, struct page_states *states)
{
	u64 mapped = table->start;
	struct record record;

	for (u64 at = table->start; at < table->end; at++) {
		bool allocated = table->ops->copy(table, at, &record);
		u8 state = record.owner.state;

		if (!allocated) {
			states->freed += state & PAGE_EXT_OWNER_FREED ? 1 : 0;
		} else if (state & PAGE_EXT_OWNER_EARLY) {
			states->early++;
		} else {
			states->allocated++;
			states->heads += !is_tail(table, at, record.owner.order);
		}
		unmap_behind(table, &mapped, at);
	}
}
