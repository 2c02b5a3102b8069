/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_KERNEL_TABLE_H
#define PAGEOWNERFS_KERNEL_TABLE_H

#include <pthread.h>

#include "text/render.h"

/* The BPF program that looks at pages, and the map in which it is asked: one question at a time. */
struct page_scanner {
	pthread_mutex_t lock;
	struct page_scan *scan;
	int prog_fd;
};

void page_scanner_scan(struct page_scanner *scanner, struct lookahead *ahead); /* po_table.scan */

#endif
