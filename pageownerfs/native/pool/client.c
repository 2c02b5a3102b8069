// SPDX-License-Identifier: MIT
/*
 * client.c - the processes on a pool: their slots, stopping all of them, and the dead.
 *
 * A client is alive as long as its OFD lock on byte POOL_CLIENT_BYTE + slot is held. The kernel
 * drops that lock when the process is gone, whatever it died of; pids and their reuse don't matter.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pool/pool.h"

#define FREEZE_POLL_NSEC 50000
#define FREEZE_TIMEOUT_NSEC 5000000000ULL

u32 pool_nr_clients(const struct pool *pool)
{
	u32 nr = atomic_load(&pool->header->nr_clients);

	return nr < NR_CLIENTS ? nr : NR_CLIENTS;
}

/*
 * A number that is another one after anything that a reader of page_owner could see has changed:
 * the sum of counters that only grow, each counted after the change. A client that died before it
 * could count its last one is counted itself when it is recovered.
 */
u64 pool_version(const struct pool *pool)
{
	const struct pool_stats *stats = &pool->header->stats;
	u64 version = atomic_load(&stats->dead_clients) + atomic_load(&stats->recovered_pages) +
		      atomic_load(&stats->zone_rebuilds) + atomic_load(&stats->early_pages) +
		      atomic_load(&stats->oom) + atomic_load(&stats->commit_failed) +
		      atomic_load(&pool->header->gate);

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

/* Free what a dead client held: whatever its state says is in its hands. clients_lock held. */
static int recover_slot(struct pool *pool, unsigned int slot)
{
	struct pool_client *client = &pool->clients[slot];
	u64 nr_pages = 0;

	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++) {
		int error = zone_lock(pool, zone);

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
#if CONFIG_PAGE_OWNER
	if (atomic_load(&client->in_op))
		atomic_store(&pool->header->stacks_suspect, 1);
	depot_flush_pages(pool, slot);
#endif
	atomic_store(&client->in_op, 0);
	atomic_store(&client->active, 0);
	return 0;
}

static int recover_dead(struct pool *pool)
{
	int nr_dead = 0;

	for (unsigned int slot = 0; slot < pool_nr_clients(pool); slot++) {
		if (!atomic_load(&pool->clients[slot].active) || pool_client_alive(pool, slot))
			continue;
		int error = recover_slot(pool, slot);

		if (error)
			return error;
		nr_dead++;
	}
	return nr_dead;
}

/* Nobody is, or gets, frozen while we have this lock. */
static int lock_freeze(struct pool_header *header)
{
	int error = pool_mutex_lock(&header->freeze_lock);

	if (error == EOWNERDEAD) /* who froze the pool is dead: let the others go on */
		atomic_fetch_and(&header->gate, ~(u32)GATE_FROZEN);
	return error == EBUSY ? -EBUSY : 0;
}

/*
 * Return the order-0 lists of dead clients; their number, or -EBUSY. Not while the pool is frozen:
 * who has frozen it may rely on nothing changing hands.
 */
int pool_recover_clients(struct pool *pool)
{
	struct pool_header *header = pool->header;
	int nr_dead = lock_freeze(header);

	if (nr_dead)
		return nr_dead;
	if (pool_mutex_lock(&header->clients_lock) == EBUSY) {
		nr_dead = -EBUSY;
	} else {
		nr_dead = recover_dead(pool);
		pthread_mutex_unlock(&header->clients_lock);
	}
	pthread_mutex_unlock(&header->freeze_lock);
	return nr_dead;
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
		/*
		 * The lock may be held though the slot is free: by a forked child that has not
		 * exited.
		 */
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

static int try_register(struct pool *pool)
{
	int error;

	if (pool_mutex_lock(&pool->header->clients_lock) == EBUSY)
		return -EBUSY;
	error = take_slot(pool);
	pthread_mutex_unlock(&pool->header->clients_lock);
	return error;
}

/* Become a client. -EUSERS: all slots are taken by the living; -ENOSPC: no memory for the slot. */
int pool_register(struct pool *pool)
{
	struct pool_header *header = pool->header;
	int error;

	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0))
		atomic_store(&header->membarrier_slow, 1);
	error = try_register(pool);
	if (error == -EUSERS && pool_recover_clients(pool) > 0)
		error = try_register(pool);
	return error;
}

static bool lists_empty(const struct pool_client *client)
{
	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
		for (unsigned int mt = 0; mt < MIGRATE_PCPTYPES; mt++)
			if (client->pcp[zone][mt].count)
				return false;
	return true;
}

/*
 * Give the order-0 lists and the slot back. Where a lock can't be had the slot stays active, and
 * without its lock it is soon found dead and recovered.
 */
void pool_unregister(struct pool *pool)
{
	struct pool_client *client = pool->client;

	if (!client)
		return;
	drain_local_pages(pool);
#if CONFIG_PAGE_OWNER
	depot_flush_pages(pool, pool->slot);
#endif
	if (lists_empty(client) && pool_mutex_lock(&pool->header->clients_lock) != EBUSY) {
		atomic_store(&client->active, 0);
		pthread_mutex_unlock(&pool->header->clients_lock);
	}
	pool->client = NULL;
	slot_unlock(pool, pool->slot);
}

static void sleep_nsec(long nsec)
{
	struct timespec ts = {.tv_nsec = nsec};

	nanosleep(&ts, NULL);
}

/*
 * Clients store in_op and then load gate, without a fence. This is the fence, on their side, paid
 * by the rare caller: afterwards either we see their in_op, or they see our gate. Expedited takes
 * microseconds, but reaches only processes that have registered for it.
 */
static void fence_all_clients(const struct pool *pool)
{
	if (atomic_load(&pool->header->membarrier_slow) == 0 &&
	    syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0)
		return;
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		sleep_nsec(20000000); /* not there at all: store buffers drain in far less */
}

static int wait_quiescent(struct pool *pool)
{
	u64 until = ktime_get_ns() + FREEZE_TIMEOUT_NSEC;

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

/*
 * Stop all clients between two operations: nothing changes hands until pool_thaw(). The caller is
 * outside of an operation itself. -EBUSY: a client is stopped in the middle of one.
 */
int pool_freeze(struct pool *pool)
{
	struct pool_header *header = pool->header;
	int error;

	error = lock_freeze(header);
	if (error)
		return error;
	atomic_store(&pool->frozen_by, (s32)syscall(SYS_gettid));
	atomic_fetch_or(&header->gate, GATE_FROZEN);
	fence_all_clients(pool);
	error = wait_quiescent(pool);
	if (error)
		pool_thaw(pool);
	return error;
}

/* -EPERM: this thread has not frozen it; the gate is somebody else's, or open. */
int pool_thaw(struct pool *pool)
{
	s32 tid = (s32)syscall(SYS_gettid);

	if (!atomic_compare_exchange_strong(&pool->frozen_by, &tid, 0))
		return -EPERM;
	atomic_fetch_and(&pool->header->gate, ~(u32)GATE_FROZEN);
	pthread_mutex_unlock(&pool->header->freeze_lock);
	return 0;
}

/* Wait until who froze the pool is done, or dead. */
int pool_wait_thaw(struct pool *pool)
{
	int error = lock_freeze(pool->header);

	if (error)
		return error;
	pthread_mutex_unlock(&pool->header->freeze_lock);
	return 0;
}

/*
 * Empty the order-0 lists of all clients, dead ones too: the last resort before an allocation
 * fails. The kernel asks the other CPUs to do it; we stop the other processes and do it for them.
 */
int drain_all_pages(struct pool *pool)
{
	int error;

	error = pool_recover_clients(pool);
	if (error < 0)
		return error;
	error = pool_freeze(pool);
	if (error)
		return error;
	for (u32 slot = 0; slot < pool_nr_clients(pool); slot++) {
		struct pool_client *client = &pool->clients[slot];

		/*
		 * in_op set means that it died in an operation just now: its lists can't be trusted
		 */
		if (atomic_load(&client->active) && !atomic_load(&client->in_op))
			drain_pages(pool, slot);
	}
	pool_thaw(pool);
	return 0;
}

/* The pools of this process, for what fork() must change in the child. */
static struct pool *all_pools;
static pthread_mutex_t all_pools_lock = PTHREAD_MUTEX_INITIALIZER;

static void fork_prepare(void)
{
	pthread_mutex_lock(&all_pools_lock);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&all_pools_lock);
}

/*
 * The child is a client of its own: the slot and the lists are the parent's. It also needs an open
 * file of its own, because OFD locks belong to the open file, which fork() shares.
 */
static void fork_child(void)
{
	for (struct pool *pool = all_pools; pool; pool = pool->next) {
		char path[] = "/proc/self/fd/0123456789";
		char *end = path + 14;
		char digits[10];
		int nr = 0, fd = pool->fd;

		do
			digits[nr++] = (char)('0' + fd % 10);
		while (fd /= 10);
		while (nr)
			*end++ = digits[--nr];
		*end = 0;
		fd = open(path, O_RDWR | O_CLOEXEC);
		close(pool->fd);
		pool->fd = fd; /* -1: registering will fail, and say so */
		pool->client = NULL;
	}
	pthread_mutex_unlock(&all_pools_lock);
#if CONFIG_PAGE_OWNER
	task_forked();
#endif
}

static void pool_atfork(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

void pool_link(struct pool *pool)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, pool_atfork);
	pthread_mutex_lock(&all_pools_lock);
	pool->next = all_pools;
	all_pools = pool;
	pthread_mutex_unlock(&all_pools_lock);
}

void pool_unlink(struct pool *pool)
{
	struct pool **link;

	pthread_mutex_lock(&all_pools_lock);
	for (link = &all_pools; *link; link = &(*link)->next)
		if (*link == pool) {
			*link = pool->next;
			break;
		}
	pthread_mutex_unlock(&all_pools_lock);
}
