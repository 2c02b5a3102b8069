/* SPDX-License-Identifier: MIT */
/* Locks in shared memory that outlive their holders: robust, process-shared mutexes. */
#ifndef PAGEOWNERFS_LOCK_H
#define PAGEOWNERFS_LOCK_H

#include <pthread.h>

#include "base/types.h"

/*
 * How long to wait for a lock. An operation of the allocator waits briefly, because the other
 * threads of the process may have to stand still meanwhile: then it ends, and its caller calls
 * reclaim(), which waits for longer.
 */
#define OPERATION_NSEC 5000000
#define PATIENCE_NSEC 10000000000ULL

int pool_mutex_init(pthread_mutex_t *mutex);
/*
 * 0; EOWNERDEAD: locked, and the caller mends what the dead holder has left; -EBUSY: the holder is
 * alive, and has not gone on for so long; -ENOTRECOVERABLE: somebody has written over the lock.
 */
int pool_mutex_lock(pthread_mutex_t *mutex, u64 nsec);

#endif
