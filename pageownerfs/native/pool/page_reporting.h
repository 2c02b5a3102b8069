/* SPDX-License-Identifier: MIT */
/* Free memory goes back to the system. Mirrors mm/page_reporting.c. */
#ifndef PAGEOWNERFS_PAGE_REPORTING_H
#define PAGEOWNERFS_PAGE_REPORTING_H

#include "pool/layout.h"

/*
 * Free blocks of pageblock order and more need no memory. One block per hold of the lock; returns
 * the pages given back.
 */
u64 page_reporting(struct pool *pool);
/* After a free, zone lock held: what is more than a few blocks goes back at once. */
void report_excess(struct pool *pool, unsigned int zone);

#endif
