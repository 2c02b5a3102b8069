/* SPDX-License-Identifier: MIT */
/* The order-0 lists of clients, like the kernel's struct per_cpu_pages. */
#ifndef PAGEOWNERFS_PCP_H
#define PAGEOWNERFS_PCP_H

#include "pool/layout.h"

/* Take the newest page of an order-0 list. 0: the list is empty, or was overwritten. */
static inline u32 pcp_pop(struct pool *pool, struct pcp *pcp)
{
	u32 pfn;

	if (unlikely(pcp->count - 1 >= PCP_HIGH_MAX))
		return 0;
	pfn = pcp->pfn[--pcp->count];
	if (unlikely(!page_on_pcp(pool, pfn, pool->slot)))
		return 0;
	return pfn;
}

/*
 * Free the nr oldest pages of a client's list, except those that it does not own according to their
 * words.
 */
int free_pcppages_bulk(struct pool *pool, unsigned int slot, struct pcp *pcp, unsigned int zone,
		       u32 nr);
/* Free all pages on the lists of a client, which is either us or stopped. -EBUSY: some are left. */
int drain_pages(struct pool *pool, unsigned int slot);
/* Free all pages on our own lists. -EBUSY: some are left, or the pool is frozen. */
int drain_local_pages(struct pool *pool);

#endif
