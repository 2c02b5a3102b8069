/* SPDX-License-Identifier: MIT */
/* Consistency check of a whole pool. */
#ifndef PAGEOWNERFS_CHECK_H
#define PAGEOWNERFS_CHECK_H

#include "pool/layout.h"

typedef void (*check_fn)(void *arg, const char *problem);

/*
 * Stop the clients and check every invariant. Returns the number of problems, or -errno. The first
 * 100 problems are reported.
 */
int pool_check(struct pool *pool, check_fn report, void *arg);

#endif
