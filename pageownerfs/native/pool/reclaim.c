// SPDX-License-Identifier: MIT
/*
 * reclaim.c - taking back pages that dead and living clients hold, and waiting for others.
 *
 * Mirrors drain_all_pages() of mm/page_alloc.c, and takes the place of the kernel's direct reclaim.
 */
#include <errno.h>

#include "base/clock.h"
#include "pool/buddy.h"
#include "pool/client.h"
#include "pool/freeze.h"
#include "pool/lock.h"
#include "pool/page_reporting.h"
#include "pool/pcp.h"
#include "pool/reclaim.h"
#include "pool/stack_depot.h"
#include "pool/zone.h"

/* Free every page that a dead client owned, according to the page words. clients_lock held. */
static int recover_slot(struct pool *pool, unsigned int slot, u64 nsec)
{
	struct pool_client *client = &pool->clients[slot];
	u64 nr_pages = 0;

	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++) {
		int error = zone_lock(pool, zone, nsec);

		if (error)
			return error;
		for (u32 pfn = pool->zone_span[zone].start_pfn; pfn < pool->zone_span[zone].end_pfn;
		     pfn++) {
			u64 word = page_word(pool, pfn);

			if (word_state(word) == PAGE_PCP && word_slot(word) == slot) {
				nr_pages += 1U << word_order(word);
				free_pcp_block(pool, pfn, word_order(word));
			}
		}
		zone_unlock(pool, zone);
	}
	stat_add(pool, recovered_pages, nr_pages);
	stat_inc(pool, dead_clients);
	if (atomic_load(&client->in_op))
		atomic_store(&pool->header->stacks_suspect, 1);
	depot_flush_pages(pool, slot);
	atomic_store(&client->in_op, 0);
	atomic_store(&client->active, 0);
	return 0;
}

static int recover_dead(struct pool *pool, u64 nsec)
{
	int nr_dead = 0;

	for (unsigned int slot = 0; slot < pool_nr_clients(pool); slot++) {
		int error;

		if (!atomic_load(&pool->clients[slot].active) || pool_client_alive(pool, slot))
			continue;
		error = recover_slot(pool, slot, nsec);
		if (error)
			return error;
		nr_dead++;
	}
	return nr_dead;
}

int pool_recover_clients(struct pool *pool, u64 nsec)
{
	int result = lock_freeze(pool, nsec);

	if (result)
		return result;
	result = pool_mutex_lock(&pool->header->clients_lock, nsec);
	if (result >= 0) {
		result = recover_dead(pool, nsec);
		pthread_mutex_unlock(&pool->header->clients_lock);
	}
	unlock_freeze(pool);
	return result;
}

int drain_all_pages(struct pool *pool, u64 nsec)
{
	int error = pool_recover_clients(pool, nsec);

	if (error < 0)
		return error;
	error = pool_freeze(pool, nsec);
	if (error)
		return error;
	for (u32 slot = 0; slot < pool_nr_clients(pool); slot++)
		if (atomic_load(&pool->clients[slot].active) && pool_lists_whole(pool, slot))
			drain_pages(pool, slot);
	pool_thaw(pool);
	return 0;
}

/* Wait until the pool is not frozen and the locks that an operation needs are free. */
static int wait_for_locks(struct pool *pool, u64 nsec)
{
	int error = lock_freeze(pool, nsec);

	if (error)
		return error;
	unlock_freeze(pool);
	error = pool_mutex_lock(&pool->header->clients_lock, nsec);
	if (error < 0)
		return error;
	pthread_mutex_unlock(&pool->header->clients_lock);
	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++) {
		error = zone_lock(pool, zone, nsec);
		if (error)
			return error;
		zone_unlock(pool, zone);
	}
	return 0;
}

int reclaim(struct pool *pool, int error, u64 nsec)
{
	int nr_dead;

	switch (-error) {
	case EAGAIN:
		return 0;
	case EBUSY:
		return wait_for_locks(pool, nsec);
	case EUSERS:
		nr_dead = pool_recover_clients(pool, nsec);
		return nr_dead > 0 ? 0 : nr_dead < 0 ? nr_dead : error;
	case ENOSPC:
		page_reporting(pool); /* our own free memory may be in the way */
		return drain_all_pages(pool, nsec);
	case ENOMEM:
		return drain_all_pages(pool, nsec);
	default:
		return error;
	}
}

static bool lists_empty(const struct pool_client *client)
{
	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
		for (unsigned int mt = 0; mt < MIGRATE_PCPTYPES; mt++)
			if (client->pcp[zone][mt].count)
				return false;
	return true;
}

void pool_unregister(struct pool *pool)
{
	if (!pool->client)
		return;
	while (drain_local_pages(pool) == -EBUSY && reclaim(pool, -EBUSY, PATIENCE_NSEC) == 0)
		;
	depot_flush_pages(pool, pool->slot);
	pool_release_slot(pool, lists_empty(pool->client), PATIENCE_NSEC);
}
