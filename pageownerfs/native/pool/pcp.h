/* SPDX-License-Identifier: MIT */
/* The order-0 lists of clients: struct per_cpu_pages of the kernel. */
#ifndef PAGEOWNERFS_PCP_H
#define PAGEOWNERFS_PCP_H

#include "pool/layout.h"

/* The newest page of an order-0 list. 0: empty, or scribbled over. */
static inline u32 pcp_pop(struct pool *pool, struct pcp *pcp)
{
	u32 pfn;

	if (unlikely(pcp->count - 1 >= PCP_HIGH_MAX))
		return 0;
	pfn = pcp->pfn[--pcp->count];
	if (unlikely(pfn >= pool->nr_pages ||
		     page_word(pool, pfn) != PAGE_WORD(PAGE_PCP, 0, pool->slot, 0)))
		return 0;
	return pfn;
}

/* Give the nr oldest pages of a client's list back: those that the words say it has. */
int free_pcppages_bulk(struct pool *pool, unsigned int slot, struct pcp *pcp, unsigned int zone,
		       u32 nr);
/* Give all lists of a client back; the client is we, or it stands still. -EBUSY: not all. */
int drain_pages(struct pool *pool, unsigned int slot);
/* Give our own back. -EBUSY: not all, or the pool is frozen. */
int drain_local_pages(struct pool *pool);

#endif
