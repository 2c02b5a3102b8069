/* SPDX-License-Identifier: MIT */
/*
 * The processes on a pool: their slots, and the operations that they are in. An operation is what
 * lies between begin_op() and end_op(); pool_freeze() stops the clients between two of them.
 */
#ifndef PAGEOWNERFS_CLIENT_H
#define PAGEOWNERFS_CLIENT_H

#include "pool/layout.h"

/* Slots that have memory. */
u32 pool_nr_clients(const struct pool *pool);
bool pool_client_alive(struct pool *pool, unsigned int slot);
/*
 * A number that is another one after anything that a reader of page_owner could see has changed:
 * the sum of counters that only grow, each counted after the change. A client that died before it
 * could count its last one is counted itself when it is recovered.
 */
u64 pool_version(const struct pool *pool);
/*
 * Give our slot back. empty: nothing is left in it. Otherwise, or where the lock can't be had, it
 * stays active, and without its own lock it is found dead and recovered.
 */
void pool_release_slot(struct pool *pool, bool empty, u64 nsec);

/*
 * Enter the allocator, as a new client if need be: returns the gate, or a negative error. -EBUSY:
 * the pool is frozen, or the lock of the slots is held; -EUSERS: all slots are taken; -ENOSPC,
 * -ENOMEM: no memory for a slot. The store and the load need no fence here: see freeze.c.
 */
int begin_op(struct pool *pool);

static inline void end_op(struct pool *pool)
{
	atomic_store_explicit(&pool->client->in_op, 0, memory_order_release);
}

/*
 * begin_op() where nothing is special: attached, not frozen, no tracking. If false, we are not in.
 * The one branch on the gate is all that tracking costs while it is off.
 */
static inline bool begin_op_fast(struct pool *pool)
{
	struct pool_client *client = pool->client;

	if (unlikely(!client))
		return false;
	atomic_store_explicit(&client->in_op, 1, memory_order_relaxed);
	barrier();
	if (likely(!atomic_load_explicit(&pool->header->gate, memory_order_acquire)))
		return true;
	atomic_store_explicit(&client->in_op, 0, memory_order_release);
	return false;
}

#endif
