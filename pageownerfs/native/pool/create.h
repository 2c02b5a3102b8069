/* SPDX-License-Identifier: MIT */
/* A new pool. */
#ifndef PAGEOWNERFS_CREATE_H
#define PAGEOWNERFS_CREATE_H

#include "pool/layout.h"

/*
 * Make a pool at path, which must not exist, and map it. Holds the daemon's lock on the file for as
 * long as pool lives.
 */
int pool_create(struct pool *pool, const char *path, const struct pool_config *config);

#endif
