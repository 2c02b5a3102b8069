/* SPDX-License-Identifier: MIT */
/* The shared-memory file: its mapping, and the memory behind it. */
#ifndef PAGEOWNERFS_MAP_H
#define PAGEOWNERFS_MAP_H

#include "pool/layout.h"

/* Map the file that pool->fd is. */
int pool_map(struct pool *pool);
/* Map an existing pool. Errors of open(2), and those of pool_check_header(). */
int pool_open(struct pool *pool, const char *path);
void pool_unmap(struct pool *pool);
/* Give memory to a range of the file. -ENOSPC: /dev/shm is full; -ENOMEM: at a memory limit. */
int pool_commit(struct pool *pool, u64 offset, u64 bytes);
/* Give a range's memory back to the system: it reads as zeroes until it is committed again. */
int pool_decommit(struct pool *pool, u64 offset, u64 bytes);

#endif
