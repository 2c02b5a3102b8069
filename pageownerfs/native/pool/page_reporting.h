/* SPDX-License-Identifier: MIT */
/* Returning free memory to the system. Mirrors mm/page_reporting.c. */
#ifndef PAGEOWNERFS_PAGE_REPORTING_H
#define PAGEOWNERFS_PAGE_REPORTING_H

#include "pool/layout.h"

/*
 * Return the memory of free blocks of at least pageblock order, one block per hold of the lock.
 * Returns the number of pages.
 */
u64 page_reporting(struct pool *pool);
/* Called after a free, with the zone lock held: return all but a few such blocks at once. */
void report_excess(struct pool *pool, unsigned int zone);

#endif
