/* SPDX-License-Identifier: MIT */
/* Creating a pool. */
#ifndef PAGEOWNERFS_CREATE_H
#define PAGEOWNERFS_CREATE_H

#include "pool/layout.h"

/*
 * Create a pool at path, which must not exist, and map it. The pool holds the daemon's lock on the
 * file for as long as it is open.
 */
int pool_create(struct pool *pool, const char *path, const struct pool_config *config);

#endif
