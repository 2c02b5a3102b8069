/* SPDX-License-Identifier: MIT */
/* The pools of this process, for what fork() must change in the child. */
#ifndef PAGEOWNERFS_FORK_H
#define PAGEOWNERFS_FORK_H

#include "pool/layout.h"

void pool_link(struct pool *pool);
void pool_unlink(struct pool *pool);

#endif
