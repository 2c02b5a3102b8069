/* SPDX-License-Identifier: MIT */
/* Switching tracking on, and recounting the stacks. The caller must not be in an operation. */
#ifndef PAGEOWNERFS_TRACKING_H
#define PAGEOWNERFS_TRACKING_H

#include "pool/layout.h"

/* Commit memory for page_ext and the start of the depot. A failure leaves nothing behind. */
int init_page_owner_memory(struct pool *pool);
/* Undo init_page_owner_memory(), because tracking could not be switched on. */
void drop_page_owner_memory(struct pool *pool);
/*
 * Switch tracking on while the clients are stopped: a page is either found here, or allocated by a
 * client that sees the gate. The memory and the header's two handles must be there already.
 * nr_early: pages found, per zone.
 */
int init_page_owner(struct pool *pool, u64 nr_early[MAX_NR_ZONES]);
/*
 * Recount the pages of all stacks, after a client died between changing a page and counting it.
 * -EBUSY: try again later.
 */
int recount_stacks(struct pool *pool);

#endif
