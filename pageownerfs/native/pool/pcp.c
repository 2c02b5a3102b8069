// SPDX-License-Identifier: MIT
/*
 * pcp.c - the order-0 lists of clients.
 *
 * Mirrors free_pcppages_bulk() and drain_pages() of mm/page_alloc.c.
 */
#include <string.h>

#include "pool/buddy.h"
#include "pool/client.h"
#include "pool/lock.h"
#include "pool/page_reporting.h"
#include "pool/pcp.h"
#include "pool/zone.h"

int free_pcppages_bulk(struct pool *pool, unsigned int slot, struct pcp *pcp, unsigned int zone,
		       u32 nr)
{
	int error;

	if (pcp->count > PCP_HIGH_MAX)
		/* overwritten: the pages are found again when the client is gone */
		pcp->count = 0;
	if (nr > pcp->count)
		nr = pcp->count;
	if (nr == 0)
		return 0;
	error = zone_lock(pool, zone, OPERATION_NSEC);
	if (error)
		return error;
	for (u32 i = 0; i < nr; i++) {
		u32 pfn = pcp->pfn[i];

		if (page_on_pcp(pool, pfn, slot) && page_zone(pool, pfn) == zone)
			free_one_page(pool, zone, pfn, 0, 0);
	}
	report_excess(pool, zone);
	zone_unlock(pool, zone);
	pcp->count -= nr;
	memmove(pcp->pfn, pcp->pfn + nr, pcp->count * sizeof(pcp->pfn[0]));
	return 0;
}

int drain_pages(struct pool *pool, unsigned int slot)
{
	struct pool_client *client = &pool->clients[slot];
	int result = 0;

	for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
		for (unsigned int mt = 0; mt < MIGRATE_PCPTYPES; mt++) {
			int error = free_pcppages_bulk(pool, slot, &client->pcp[zone][mt], zone,
						       PCP_HIGH_MAX);

			result = result ? result : error;
		}
	return result;
}

int drain_local_pages(struct pool *pool)
{
	int error;

	if (!pool->client)
		return 0;
	error = begin_op(pool);
	if (error < 0)
		return error;
	error = drain_pages(pool, pool->slot);
	end_op(pool);
	return error;
}
