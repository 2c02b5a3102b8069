/* SPDX-License-Identifier: MIT */
/* The list of the pools of this process, which the fork() handlers need. */
#ifndef PAGEOWNERFS_FORK_H
#define PAGEOWNERFS_FORK_H

#include "pool/layout.h"

void pool_link(struct pool *pool);
void pool_unlink(struct pool *pool);

#endif
