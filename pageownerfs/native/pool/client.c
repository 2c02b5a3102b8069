// SPDX-License-Identifier: MIT
/*
 * client.c - a pool's clients and their slots.
 *
 * A client is alive as long as the OFD lock on byte POOL_CLIENT_BYTE + slot is held. The kernel
 * drops the lock when the process is gone, however it died, and reused pids cause no confusion.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "pool/client.h"
#include "pool/lock.h"
#include "pool/map.h"

u32 pool_nr_clients(const struct pool *pool)
{
	u32 nr = atomic_load(&pool->header->nr_clients);

	return nr < NR_CLIENTS ? nr : NR_CLIENTS;
}

u64 pool_version(const struct pool *pool)
{
	const struct pool_stats *stats = &pool->header->stats;
	u64 version = atomic_load(&stats->dead_clients) + atomic_load(&stats->recovered_pages) +
		      atomic_load(&stats->zone_rebuilds) + atomic_load(&stats->early_pages) +
		      atomic_load(&stats->oom) + atomic_load(&stats->commit_failed) +
		      (atomic_load(&pool->header->gate) & GATE_PAGE_OWNER);

	for (u32 slot = 0; slot < pool_nr_clients(pool); slot++)
		version += pool->clients[slot].pgalloc + pool->clients[slot].pgfree +
			   pool->clients[slot].pgsplit;
	atomic_thread_fence(memory_order_acquire);
	return version;
}

static bool slot_trylock(struct pool *pool, unsigned int slot)
{
	struct flock lock = {.l_type = F_WRLCK, .l_start = POOL_CLIENT_BYTE + slot, .l_len = 1};

	return fcntl(pool->fd, F_OFD_SETLK, &lock) == 0;
}

static void slot_unlock(struct pool *pool, unsigned int slot)
{
	struct flock lock = {.l_type = F_UNLCK, .l_start = POOL_CLIENT_BYTE + slot, .l_len = 1};

	fcntl(pool->fd, F_OFD_SETLK, &lock);
}

bool pool_client_alive(struct pool *pool, unsigned int slot)
{
	struct flock lock = {.l_type = F_WRLCK, .l_start = POOL_CLIENT_BYTE + slot, .l_len = 1};

	if (pool->client && pool->slot == slot)
		return true;
	return fcntl(pool->fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

static void init_slot(struct pool *pool, unsigned int slot)
{
	struct pool_client *client = &pool->clients[slot];

	memset(client->pcp, 0, sizeof(client->pcp));
	memset(client->comm, 0, sizeof(client->comm));
	client->pid = (s32)syscall(SYS_gettid);
	client->tgid = (s32)getpid();
	client->attached_nsec = ktime_get_ns();
	prctl(PR_GET_NAME, client->comm);
	pool->slot = slot;
	pool->client = client;
	atomic_store(&client->active, 1);
}

/* clients_lock held */
static int take_slot(struct pool *pool)
{
	u32 slot, nr = pool_nr_clients(pool);

	for (slot = 0; slot < nr; slot++)
		/* A forked child that has not exited may still hold the lock of a free slot. */
		if (!atomic_load(&pool->clients[slot].active) && slot_trylock(pool, slot))
			break;
	if (slot == NR_CLIENTS)
		return -EUSERS;
	if (slot == nr) {
		int error = pool_commit(pool,
					(u64)((char *)&pool->clients[slot] - pool->base) /
						PAGE_SIZE * PAGE_SIZE,
					sizeof(struct pool_client) + PAGE_SIZE);

		if (error)
			return error;
		if (!slot_trylock(pool, slot))
			return -EUSERS;
		atomic_store(&pool->header->nr_clients, nr + 1);
	}
	init_slot(pool, slot);
	return 0;
}

/* Register this process as a client. */
static int pool_register(struct pool *pool)
{
	int error;

	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0))
		atomic_store(&pool->header->membarrier_slow, 1);
	error = pool_mutex_lock(&pool->header->clients_lock, OPERATION_NSEC);
	if (error < 0)
		return error;
	error = take_slot(pool);
	pthread_mutex_unlock(&pool->header->clients_lock);
	return error;
}

int begin_op(struct pool *pool)
{
	u32 gate;

	if (unlikely(!pool->client)) {
		int error = pool_register(pool);

		if (error)
			return error;
	}
	atomic_store_explicit(&pool->client->in_op, 1, memory_order_relaxed);
	barrier();
	gate = atomic_load_explicit(&pool->header->gate, memory_order_acquire);
	if (likely(!(gate & GATE_FROZEN)))
		return (int)gate;
	end_op(pool);
	return -EBUSY;
}

void pool_release_slot(struct pool *pool, bool empty, u64 nsec)
{
	struct pool_client *client = pool->client;

	if (empty && pool_mutex_lock(&pool->header->clients_lock, nsec) >= 0) {
		atomic_store(&client->active, 0);
		pthread_mutex_unlock(&pool->header->clients_lock);
	}
	pool->client = NULL;
	slot_unlock(pool, pool->slot);
}
