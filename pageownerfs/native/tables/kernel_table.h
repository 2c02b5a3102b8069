/* SPDX-License-Identifier: MIT */
/*
 * The table of the running kernel's pages: page_ext, which BPF programs write. Another BPF program
 * looks up everything else about a page.
 */
#ifndef PAGEOWNERFS_KERNEL_TABLE_H
#define PAGEOWNERFS_KERNEL_TABLE_H

#include <pthread.h>

#include "tables/table.h"

/* The BPF program that looks at pages, and the map it shares with us. One request at a time. */
struct page_scanner {
	pthread_mutex_t lock;
	struct page_scan *scan;
	int prog_fd; /* -1: there is no program, and all flags read as 0 */
};

struct kernel_table {
	struct table table;
	const struct page_owner *page_ext; /* indexed by PFN, from 0 */
	struct page_owner early;	   /* what every early page shows */
	struct page_scanner scanner;
	u8 nid_shift, nid_bits; /* where the flags have the node */
	_Atomic u32 gate;
};

/*
 * Initialize a table that is switched on. The memory it points to and the descriptor of the scanner
 * stay the caller's.
 */
void kernel_table_init(struct kernel_table *self);
void kernel_table_destroy(struct kernel_table *self);
/* Look up the pages of ahead, and fill in their info. */
void page_scanner_scan(struct page_scanner *scanner, struct lookahead *ahead);

#endif
