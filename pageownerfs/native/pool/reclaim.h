/* SPDX-License-Identifier: MIT */
/*
 * Taking back pages that dead and living clients hold, and waiting for others. Call these outside
 * an operation and without holding a lock. Other threads of the process may run meanwhile, but the
 * pool must stay mapped. nsec: how long to wait for each lock.
 */
#ifndef PAGEOWNERFS_RECLAIM_H
#define PAGEOWNERFS_RECLAIM_H

#include "pool/layout.h"

/*
 * Handle an error of a function in page_alloc.h. 0: call the function again. -EBUSY: still blocked
 * after nsec; reclaim() may be called again. Other errors are final.
 */
int reclaim(struct pool *pool, int error, u64 nsec);
/*
 * Free the pages that dead clients owned, and their slots. Returns the number of clients, or a
 * negative error. Waits while the pool is frozen: whoever froze it may rely on no page changing
 * hands.
 */
int pool_recover_clients(struct pool *pool, u64 nsec);
/*
 * Empty the order-0 lists of all clients, dead ones included: the last resort before an allocation
 * fails. The kernel asks the other CPUs to do this; we stop the other processes and do it for them.
 */
int drain_all_pages(struct pool *pool, u64 nsec);
/*
 * Free our order-0 lists and return our slot. If a lock cannot be taken, the slot stays active and
 * is soon found dead and recovered.
 */
void pool_unregister(struct pool *pool);

#endif
