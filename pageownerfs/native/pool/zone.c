// SPDX-License-Identifier: MIT
/*
 * zone.c - the lock of a zone, and the repair of what a dead holder left.
 */
#include <errno.h>
#include <string.h>

#include "pool/free_area.h"
#include "pool/lock.h"
#include "pool/page_owner.h"
#include "pool/zone.h"

static bool word_is_free(u64 word)
{
	return word_state(word) == PAGE_FREE || word_state(word) == PAGE_BUDDY;
}

/*
 * A client may have died while it split this block. Its head is written last and still covers all
 * of it, so undo the split.
 */
static void undo_split(struct pool *pool, u32 pfn, unsigned int order)
{
	bool split = false;

	for (u32 nr = 1; nr < 1U << order; nr++) {
		if (word_state(page_word(pool, pfn + nr)) == PAGE_TAIL)
			continue;
		set_page_word(pool, pfn + nr, PAGE_WORD(PAGE_TAIL, 0, 0, 0));
		split = true;
	}
	unsplit_page_owner(pool, pfn, order, split);
}

void rebuild_zone(struct pool *pool, unsigned int zone)
{
	struct zone *z = pool_zone(pool, zone);
	u32 end = pool->zone_span[zone].end_pfn;
	u32 pfn = pool->zone_span[zone].start_pfn;

	memset(z->free_area, 0, sizeof(z->free_area));
	z->nr_free = z->nr_free_cma = z->nr_populated = 0;
	while (pfn < end) {
		u64 word = page_word(pool, pfn);
		u32 start = pfn;

		if (!word_is_free(word)) {
			u32 nr = covered(word, pfn, end);

			if (word_state(word) == PAGE_ALLOCATED && nr > 1)
				undo_split(pool, pfn, word_order(word));
			pfn += nr;
			continue;
		}
		while (pfn < end && word_is_free(page_word(pool, pfn))) {
			set_page_word(pool, pfn, PAGE_WORD(PAGE_FREE, 0, 0, 0));
			pfn++;
		}
		/* It is no longer known which of them have memory: allow for both cases. */
		add_free_range(pool, zone, start, pfn, BUDDY_HOLE | BUDDY_POPULATED);
	}
	stat_inc(pool, zone_rebuilds);
}

int zone_lock(struct pool *pool, unsigned int zone, u64 nsec)
{
	int error = pool_mutex_lock(&pool_zone(pool, zone)->lock, nsec);

	if (unlikely(error == EOWNERDEAD)) {
		rebuild_zone(pool, zone);
		return 0;
	}
	return error;
}

void zone_unlock(struct pool *pool, unsigned int zone)
{
	pthread_mutex_unlock(&pool_zone(pool, zone)->lock);
}
