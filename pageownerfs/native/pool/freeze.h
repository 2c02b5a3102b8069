/* SPDX-License-Identifier: MIT */
/* Stopping all clients between two operations. The caller must not be in an operation. */
#ifndef PAGEOWNERFS_FREEZE_H
#define PAGEOWNERFS_FREEZE_H

#include "pool/layout.h"

/*
 * No page changes hands from here until pool_thaw(). -EBUSY: a client is stopped in the middle of
 * an operation, or somebody else has kept the pool frozen for nsec.
 */
int pool_freeze(struct pool *pool, u64 nsec);
/*
 * In a frozen pool, can the order-0 lists of a client be trusted? Not if it died inside an
 * operation. A live client is never inside one, even if its in_op is set: it is only checking the
 * gate.
 */
bool pool_lists_whole(struct pool *pool, unsigned int slot);
/* -EPERM: this thread has not frozen the pool. */
int pool_thaw(struct pool *pool);

/*
 * Between these calls the pool is not frozen and nobody can freeze it. Returns 0 or a negative
 * error of pool_mutex_lock().
 */
int lock_freeze(struct pool *pool, u64 nsec);
void unlock_freeze(struct pool *pool);

#endif
