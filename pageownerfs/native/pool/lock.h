/* SPDX-License-Identifier: MIT */
/* Locks in shared memory that outlive their holders: robust, process-shared mutexes. */
#ifndef PAGEOWNERFS_LOCK_H
#define PAGEOWNERFS_LOCK_H

#include <pthread.h>

#include "base/types.h"

/*
 * How long to wait for a lock. An operation of the allocator waits briefly, because it may stall
 * the other threads of the process. It then fails, and its caller calls reclaim(), which waits
 * longer.
 */
#define OPERATION_NSEC 5000000
#define PATIENCE_NSEC 10000000000ULL

int pool_mutex_init(pthread_mutex_t *mutex);
/*
 * 0: locked. EOWNERDEAD: locked, and the caller must repair what the dead holder left. -EBUSY: a
 * live holder has kept the lock for nsec. -ENOTRECOVERABLE: the lock has been overwritten.
 */
int pool_mutex_lock(pthread_mutex_t *mutex, u64 nsec);

#endif
