/* SPDX-License-Identifier: MIT */
/* Does everything in a pool agree? */
#ifndef PAGEOWNERFS_CHECK_H
#define PAGEOWNERFS_CHECK_H

#include "pool/layout.h"

typedef void (*check_fn)(void *arg, const char *problem);

/* Stop the clients and check every invariant. Number of problems, each reported once, or -errno. */
int pool_check(struct pool *pool, check_fn report, void *arg);

#endif
