/* SPDX-License-Identifier: MIT */
/*
 * A pool's clients: their slots, and the operations they are in. An operation is the code between
 * begin_op() and end_op(); pool_freeze() stops clients only between operations.
 */
#ifndef PAGEOWNERFS_CLIENT_H
#define PAGEOWNERFS_CLIENT_H

#include "pool/layout.h"

/* The number of slots backed by memory. */
u32 pool_nr_clients(const struct pool *pool);
bool pool_client_alive(struct pool *pool, unsigned int slot);
/*
 * A number that changes whenever anything changes that a reader of page_owner could see. It is a
 * sum of counters that only grow, each incremented after the change. A client that died before it
 * counted its last change is counted itself when it is recovered.
 */
u64 pool_version(const struct pool *pool);
/*
 * Return our slot. If it is empty and clients_lock can be taken, the slot becomes free. Otherwise
 * it stays active without its OFD lock, so it is found dead and recovered.
 */
void pool_release_slot(struct pool *pool, bool empty, u64 nsec);

/*
 * Enter the allocator; the first call registers us as a client. Returns the gate, or a negative
 * error. -EBUSY: the pool is frozen, or clients_lock is held; -EUSERS: all slots are taken;
 * -ENOSPC, -ENOMEM: no memory for a slot. No fence is needed between the store and the load: see
 * freeze.c.
 */
int begin_op(struct pool *pool);

static inline void end_op(struct pool *pool)
{
	atomic_store_explicit(&pool->client->in_op, 0, memory_order_release);
}

/*
 * begin_op() for the common case: registered, not frozen, no tracking. Returns false without having
 * entered if any of these does not hold. This one branch on the gate is all that tracking costs
 * while it is off.
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
