// SPDX-License-Identifier: MIT
/*
 * hold_pool PATH zones|clients|depot|operation|gate - get in the way of the clients of a pool.
 *
 * Takes the locks of the pool's zones, of its client slots or of its depot, or enters an operation.
 * Prints a line, and lets go at the end of standard input. gate: a client with free pages on its
 * lists that keeps trying to enter while the pool is frozen, like one that is preempted in
 * begin_op().
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/gfp.h"
#include "pool/client.h"
#include "pool/lock.h"
#include "pool/map.h"
#include "pool/page_alloc.h"
#include "pool/zone.h"

static void spin(u64 nsec)
{
	u64 until = ktime_get_ns() + nsec;

	while (ktime_get_ns() < until)
		;
}

static void *knock(void *arg)
{
	struct pool *pool = arg;

	for (;;) {
		if (!(atomic_load(&pool->header->gate) & GATE_FROZEN))
			continue;
		atomic_store(&pool->client->in_op, 1);
		spin(20000);
		end_op(pool);
		spin(5000);
	}
	return NULL;
}

static int hold_gate(struct pool *pool)
{
	pthread_t thread;
	u32 pfn;
	int error = alloc_pages(pool, 0, GFP_KERNEL, 0, false, &pfn);

	return error ? error : -pthread_create(&thread, NULL, knock, pool);
}

static int hold(struct pool *pool, const char *what)
{
	int error = 0;

	if (strcmp(what, "operation") == 0)
		return begin_op(pool);
	if (strcmp(what, "gate") == 0)
		return hold_gate(pool);
	if (strcmp(what, "clients") == 0)
		return pool_mutex_lock(&pool->header->clients_lock, PATIENCE_NSEC);
	if (strcmp(what, "depot") == 0)
		return pool_mutex_lock(&pool->header->depot_lock, PATIENCE_NSEC);
	for (unsigned int zone = 0; zone < MAX_NR_ZONES && !error; zone++)
		error = zone_lock(pool, zone, PATIENCE_NSEC);
	return error;
}

static void let_go(struct pool *pool, const char *what)
{
	if (strcmp(what, "gate") == 0)
		return;
	if (strcmp(what, "operation") == 0)
		end_op(pool);
	else if (strcmp(what, "clients") == 0)
		pthread_mutex_unlock(&pool->header->clients_lock);
	else if (strcmp(what, "depot") == 0)
		pthread_mutex_unlock(&pool->header->depot_lock);
	else
		for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
			zone_unlock(pool, zone);
}

int main(int argc, char **argv)
{
	struct pool pool;

	if (argc != 3 || pool_open(&pool, argv[1]) || hold(&pool, argv[2]) < 0)
		return 1;
	puts("held");
	fflush(stdout);
	while (getchar() != EOF)
		;
	let_go(&pool, argv[2]);
	return 0;
}
