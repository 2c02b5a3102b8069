// SPDX-License-Identifier: MIT
/*
 * check.c - consistency check of a whole pool.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "pool/check.h"
#include "pool/client.h"
#include "pool/free_area.h"
#include "pool/freeze.h"
#include "pool/lock.h"
#include "pool/zone.h"

struct check {
	struct pool *pool;
	check_fn report;
	void *arg;
	int nr_problems;
	u8 *on_list; /* per PFN: 1 = on a free list, 2 = on a client's list */
};

__attribute__((format(printf, 2, 3))) static void problem(struct check *check, const char *format,
							  ...)
{
	char text[160];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (check->nr_problems++ < 100)
		check->report(check->arg, text);
}

static void check_free_lists(struct check *check, unsigned int zone)
{
	struct pool *pool = check->pool;
	struct zone *z = pool_zone(pool, zone);
	u64 nr_free = 0;

	for (unsigned int order = 0; order <= MAX_PAGE_ORDER; order++) {
		for (unsigned int mt = 0; mt < MIGRATE_TYPES; mt++) {
			u32 pfn = z->free_area[order].free_list[mt], prev = 0, nr = 0;

			while (pfn && pfn < pool->nr_pages && nr <= pool->nr_pages) {
				if (!page_is_buddy(pool, zone, pfn, order))
					problem(check,
						"PFN 0x%x: on the free list of order %u, "
						"but its word is 0x%llx",
						pfn, order,
						(unsigned long long)page_word(pool, pfn));
				if (pfn_to_page(pool, pfn)->prev != prev)
					problem(check, "PFN 0x%x: prev is 0x%x, not 0x%x", pfn,
						pfn_to_page(pool, pfn)->prev, prev);
				if (check->on_list[pfn]++)
					problem(check, "PFN 0x%x: on a free list twice", pfn);
				prev = pfn;
				pfn = pfn_to_page(pool, pfn)->next;
				nr++;
			}
			if (nr != z->free_area[order].nr_free[mt])
				problem(check,
					"zone %u order %u type %u: %u blocks, nr_free says %u",
					zone, order, mt, nr, z->free_area[order].nr_free[mt]);
			nr_free += (u64)nr << order;
		}
	}
	if (nr_free != z->nr_free)
		problem(check, "zone %u: %llu free pages, nr_free says %llu", zone,
			(unsigned long long)nr_free, (unsigned long long)z->nr_free);
}

static void check_client_lists(struct check *check)
{
	struct pool *pool = check->pool;

	for (u32 slot = 0; slot < pool_nr_clients(pool); slot++) {
		struct pool_client *client = &pool->clients[slot];

		if (!atomic_load(&client->active) || !pool_lists_whole(pool, slot))
			continue;
		for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
			for (unsigned int mt = 0; mt < MIGRATE_PCPTYPES; mt++)
				for (u32 i = 0; i < client->pcp[zone][mt].count && i < PCP_HIGH_MAX;
				     i++) {
					u32 pfn = client->pcp[zone][mt].pfn[i];

					if (!page_on_pcp(pool, pfn, slot))
						problem(check,
							"PFN 0x%x: on the list of client %u, "
							"but its word is 0x%llx",
							pfn, slot,
							pfn < pool->nr_pages
								? (unsigned long long)page_word(
									  pool, pfn)
								: 0ULL);
					else if (check->on_list[pfn])
						problem(check, "PFN 0x%x: on two lists", pfn);
					else
						check->on_list[pfn] = 2;
				}
	}
}

static void check_tails(struct check *check, u32 pfn, u32 nr, enum page_state expect)
{
	for (u32 i = 1; i < nr; i++)
		if (word_state(page_word(check->pool, pfn + i)) != expect)
			problem(check, "PFN 0x%x: state %u inside the block at 0x%x", pfn + i,
				word_state(page_word(check->pool, pfn + i)), pfn);
}

#if CONFIG_PAGE_OWNER
static void check_owner(struct check *check, u32 pfn, u32 nr, bool allocated)
{
	if (!(atomic_load(&check->pool->header->gate) & GATE_PAGE_OWNER))
		return;
	for (u32 i = 0; i < nr; i++) {
		const struct page_owner *owner = &check->pool->page_ext[pfn + i];

		if (allocated != !!(owner->state & PAGE_EXT_OWNER_ALLOCATED))
			problem(check, "PFN 0x%x: %s, but its page_owner is %s", pfn + i,
				allocated ? "allocated" : "free",
				allocated ? "not allocated" : "allocated");
		else if (allocated && !(owner->state & PAGE_EXT_OWNER_EARLY) &&
			 1U << (owner->order & 31) != nr)
			problem(check, "PFN 0x%x: page_owner of order %u in a block of %u pages",
				pfn + i, owner->order, nr);
		else if (allocated && owner->handle == 0)
			problem(check, "PFN 0x%x: page_owner without a stack", pfn + i);
	}
}
#endif

static bool client_is_dead(struct pool *pool, unsigned int slot)
{
	return slot < pool_nr_clients(pool) && atomic_load(&pool->clients[slot].active) &&
	       !pool_client_alive(pool, slot);
}

static void check_pages(struct check *check, unsigned int zone)
{
	struct pool *pool = check->pool;
	u32 end = pool->zone_span[zone].end_pfn, nr;

	for (u32 pfn = pool->zone_span[zone].start_pfn; pfn < end; pfn += nr) {
		u64 word = page_word(pool, pfn);
		bool allocated = word_state(word) == PAGE_ALLOCATED;

		nr = 1;
		switch (word_state(word)) {
		case PAGE_BUDDY:
			nr = covered(word, pfn, end);
			if (check->on_list[pfn] != 1)
				problem(check, "PFN 0x%x: free block of order %u is on no list",
					pfn, word_order(word));
			check_tails(check, pfn, nr, PAGE_FREE);
			break;
		case PAGE_ALLOCATED:
			nr = covered(word, pfn, end);
			if (word_count(word) == 0)
				problem(check, "PFN 0x%x: allocated without a reference", pfn);
			check_tails(check, pfn, nr, PAGE_TAIL);
			break;
		case PAGE_PCP:
			nr = covered(word, pfn, end);
			if (client_is_dead(pool, word_slot(word)))
				continue; /* fixed when the client is recovered */
			if (check->on_list[pfn] != 2)
				problem(check, "PFN 0x%x: owned by client %u, but on no list", pfn,
					word_slot(word));
			break;
		case PAGE_RESERVED:
			break;
		default:
			problem(check, "PFN 0x%x: state %u belongs to no block", pfn,
				word_state(word));
		}
#if CONFIG_PAGE_OWNER
		if (word_state(word) != PAGE_RESERVED)
			check_owner(check, pfn, nr, allocated);
#else
		(void)allocated;
#endif
	}
}

int pool_check(struct pool *pool, check_fn report, void *arg)
{
	struct check check = {.pool = pool, .report = report, .arg = arg};
	int error;

	check.on_list = calloc(pool->nr_pages, 1);
	if (!check.on_list)
		return -ENOMEM;
	error = pool_freeze(pool, PATIENCE_NSEC);
	if (!error) {
		/* Taking the locks first repairs what a dead holder left. */
		for (unsigned int zone = 0; zone < MAX_NR_ZONES && !error; zone++) {
			error = zone_lock(pool, zone, PATIENCE_NSEC);
			if (!error) {
				check_free_lists(&check, zone);
				zone_unlock(pool, zone);
			}
		}
		check_client_lists(&check);
		for (unsigned int zone = 0; zone < MAX_NR_ZONES && !error; zone++)
			check_pages(&check, zone);
		pool_thaw(pool);
	}
	free(check.on_list);
	return error ? error : check.nr_problems;
}
