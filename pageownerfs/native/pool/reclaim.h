/* SPDX-License-Identifier: MIT */
/*
 * Taking back what the dead and the living hold, and waiting for others. All of it outside of an
 * operation, and without a lock. Who shares the process may go on meanwhile: only the pool itself
 * must stay mapped. nsec: how long to wait, for each lock.
 */
#ifndef PAGEOWNERFS_RECLAIM_H
#define PAGEOWNERFS_RECLAIM_H

#include "pool/layout.h"

/*
 * What the caller of page_alloc.h does with an error. 0: call again. -EBUSY: not within nsec; may
 * be called again. Others: the error that stays.
 */
int reclaim(struct pool *pool, int error, u64 nsec);
/*
 * Return the order-0 lists of dead clients; their number, or a negative error. Not while the pool
 * is frozen: who has frozen it may rely on nothing changing hands.
 */
int pool_recover_clients(struct pool *pool, u64 nsec);
/*
 * Empty the order-0 lists of all clients, dead ones too: the last resort before an allocation
 * fails. The kernel asks the other CPUs to do it; we stop the other processes and do it for them.
 */
int drain_all_pages(struct pool *pool, u64 nsec);
/*
 * Give our order-0 lists and our slot back. Where a lock can't be had the slot stays active, and is
 * soon found dead and recovered.
 */
void pool_unregister(struct pool *pool);

#endif
