// SPDX-License-Identifier: MIT
/*
 * freeze.c - stopping all clients between two operations.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "pool/client.h"
#include "pool/freeze.h"
#include "pool/lock.h"

#define FREEZE_POLL_NSEC 50000
#define FREEZE_TIMEOUT_NSEC 5000000000ULL

static void sleep_nsec(long nsec)
{
	struct timespec ts = {.tv_nsec = nsec};

	nanosleep(&ts, NULL);
}

/*
 * Clients store in_op and then load the gate, without a fence. Membarrier puts the fence on their
 * side, and only the rare caller pays for it: afterwards either we see their in_op, or they see our
 * gate. The expedited kind takes microseconds, but reaches only processes that have registered for
 * it.
 */
static void fence_all_clients(const struct pool *pool)
{
	if (atomic_load(&pool->header->membarrier_slow) == 0 &&
	    syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0)
		return;
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		sleep_nsec(20000000); /* no membarrier at all: store buffers drain in far less */
}

static int wait_quiescent(struct pool *pool, u64 nsec)
{
	u64 until = ktime_get_ns() + (nsec < FREEZE_TIMEOUT_NSEC ? nsec : FREEZE_TIMEOUT_NSEC);

	for (u32 slot = 0; slot < pool_nr_clients(pool); slot++) {
		struct pool_client *client = &pool->clients[slot];

		while (atomic_load(&client->active) && atomic_load(&client->in_op) &&
		       pool_client_alive(pool, slot)) {
			if (ktime_get_ns() > until)
				return -EBUSY;
			sleep_nsec(FREEZE_POLL_NSEC);
		}
	}
	return 0;
}

bool pool_lists_whole(struct pool *pool, unsigned int slot)
{
	return !atomic_load(&pool->clients[slot].in_op) || pool_client_alive(pool, slot);
}

/* Keep only the entries of a client's list that the page words confirm. */
static void mend_list(struct pool *pool, unsigned int slot, struct pcp *pcp)
{
	u32 nr = 0;

	for (u32 i = 0; i < pcp->count && i < PCP_HIGH_MAX; i++) {
		u32 pfn = pcp->pfn[i];

		if (page_on_pcp(pool, pfn, slot))
			pcp->pfn[nr++] = pfn;
	}
	pcp->count = nr;
}

/*
 * The process that had frozen the pool died, maybe while it emptied the lists of other clients in
 * drain_all_pages(). If the clients do not stop now, it died before they had stopped, and so before
 * it began.
 */
static void mend_lists(struct pool *pool, u64 nsec)
{
	fence_all_clients(pool);
	if (wait_quiescent(pool, nsec))
		return;
	for (u32 slot = 0; slot < pool_nr_clients(pool); slot++) {
		struct pool_client *client = &pool->clients[slot];

		if (!atomic_load(&client->active) || !pool_lists_whole(pool, slot))
			continue;
		for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
			for (unsigned int mt = 0; mt < MIGRATE_PCPTYPES; mt++)
				mend_list(pool, slot, &client->pcp[zone][mt]);
	}
}

int lock_freeze(struct pool *pool, u64 nsec)
{
	int error = pool_mutex_lock(&pool->header->freeze_lock, nsec);

	if (error < 0)
		return error;
	/*
	 * Whoever freezes the pool holds this lock. If the pool is still frozen, the freezer died:
	 * let the others continue.
	 */
	if (atomic_load(&pool->header->gate) & GATE_FROZEN) {
		mend_lists(pool, nsec);
		atomic_fetch_and(&pool->header->gate, ~(u32)GATE_FROZEN);
	}
	return 0;
}

void unlock_freeze(struct pool *pool)
{
	pthread_mutex_unlock(&pool->header->freeze_lock);
}

int pool_freeze(struct pool *pool, u64 nsec)
{
	int error = lock_freeze(pool, nsec);

	if (error)
		return error;
	atomic_store(&pool->frozen_by, (s32)syscall(SYS_gettid));
	atomic_fetch_or(&pool->header->gate, GATE_FROZEN);
	fence_all_clients(pool);
	error = wait_quiescent(pool, nsec);
	if (error)
		pool_thaw(pool);
	return error;
}

int pool_thaw(struct pool *pool)
{
	s32 tid = (s32)syscall(SYS_gettid);

	if (!atomic_compare_exchange_strong(&pool->frozen_by, &tid, 0))
		return -EPERM;
	atomic_fetch_and(&pool->header->gate, ~(u32)GATE_FROZEN);
	unlock_freeze(pool);
	return 0;
}
