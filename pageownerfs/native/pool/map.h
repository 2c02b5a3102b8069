/* SPDX-License-Identifier: MIT */
/* The shared-memory file: its mapping, and the memory that backs it. */
#ifndef PAGEOWNERFS_MAP_H
#define PAGEOWNERFS_MAP_H

#include "pool/layout.h"

/* Map the open file pool->fd. */
int pool_map(struct pool *pool);
/* Open and map an existing pool. Fails with the errors of open(2) and pool_check_header(). */
int pool_open(struct pool *pool, const char *path);
void pool_unmap(struct pool *pool);
/*
 * Allocate memory for a range of the file. -ENOSPC: /dev/shm is full; -ENOMEM: a memory limit is
 * reached.
 */
int pool_commit(struct pool *pool, u64 offset, u64 bytes);
/* Return the memory of a range to the system. It reads as zeros until it is committed again. */
int pool_decommit(struct pool *pool, u64 offset, u64 bytes);

#endif
