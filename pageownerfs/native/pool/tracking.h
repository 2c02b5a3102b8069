/* SPDX-License-Identifier: MIT */
/* Switching tracking on, and what it has counted. None of it from within an operation. */
#ifndef PAGEOWNERFS_TRACKING_H
#define PAGEOWNERFS_TRACKING_H

#include "pool/layout.h"

/* Memory for page_ext and the start of the depot. On failure nothing stays. */
int init_page_owner_memory(struct pool *pool);
/* Undo it: tracking could not be switched on. */
void drop_page_owner_memory(struct pool *pool);
/*
 * Switch tracking on. The clients stand still meanwhile: a page is either found here, or allocated
 * by a client that sees the gate. Its memory and the two handles of the header are there already.
 * nr_early: pages found, per zone.
 */
int init_page_owner(struct pool *pool, u64 nr_early[MAX_NR_ZONES]);
/*
 * Count all stacks anew, after a client has died between a page and its count. -EBUSY: it can't be
 * done now.
 */
int recount_stacks(struct pool *pool);

#endif
