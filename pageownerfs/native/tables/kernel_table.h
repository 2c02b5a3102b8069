/* SPDX-License-Identifier: MIT */
/*
 * The table of the running kernel's pages: page_ext, which BPF programs write. What else is to be
 * known of a page is asked for by one of them.
 */
#ifndef PAGEOWNERFS_KERNEL_TABLE_H
#define PAGEOWNERFS_KERNEL_TABLE_H

#include <pthread.h>

#include "tables/table.h"

/* The BPF program that looks at pages, and the map in which it is asked: one question at a time. */
struct page_scanner {
	pthread_mutex_t lock;
	struct page_scan *scan;
	int prog_fd; /* -1: nobody can be asked, and all flags are 0 */
};

struct kernel_table {
	struct table table;
	const struct page_owner *page_ext; /* by PFN, from 0 on */
	struct page_owner early;	   /* what each early page shows */
	struct page_scanner scanner;
	u8 nid_shift, nid_bits; /* of the node in the flags */
	_Atomic u32 gate;
};

/* Switched on. What it points to, and the scanner's descriptor, stay the caller's. */
void kernel_table_init(struct kernel_table *self);
void kernel_table_destroy(struct kernel_table *self);
/* Ask for the pages of ahead, and fill in what is known of them. */
void page_scanner_scan(struct page_scanner *scanner, struct lookahead *ahead);

#endif
