/* SPDX-License-Identifier: MIT */
/* Stopping all clients between two operations. The caller is outside of an operation itself. */
#ifndef PAGEOWNERFS_FREEZE_H
#define PAGEOWNERFS_FREEZE_H

#include "pool/layout.h"

/*
 * Nothing changes hands from here until pool_thaw(). -EBUSY: a client is stopped in the middle of
 * an operation, or somebody else has frozen the pool for nsec.
 */
int pool_freeze(struct pool *pool, u64 nsec);
/*
 * With the pool frozen: can the order-0 lists of a client be trusted? Not if it died inside of an
 * operation. One that lives is in none, even where in_op is set: it knocks at the gate.
 */
bool pool_lists_whole(struct pool *pool, unsigned int slot);
/* -EPERM: this thread has not frozen it; the gate is somebody else's, or open. */
int pool_thaw(struct pool *pool);

/* Nobody is, or gets, frozen between these. 0, or a negative error: see pool_mutex_lock(). */
int lock_freeze(struct pool *pool, u64 nsec);
void unlock_freeze(struct pool *pool);

#endif
