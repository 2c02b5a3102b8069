/* SPDX-License-Identifier: MIT */
/*
 * What the daemon knows about a page besides its record. It asks in batches: the program scan_pages
 * of page_owner.bpf.c fills info[0..nr) for pfn[0..nr). Only one request may be in flight.
 */
#ifndef PAGEOWNERFS_PAGE_SCAN_H
#define PAGEOWNERFS_PAGE_SCAN_H

#include "base/page_owner.h"

#define PAGE_SCAN_BATCH 1024

/*
 * page_info.memcg: 0 if unknown or not charged; otherwise these bits, with the kernfs id of the
 * cgroup's directory above them
 */
#define PAGE_MEMCG_SLAB 1
#define PAGE_MEMCG_KMEM 2
#define PAGE_MEMCG_ONLINE 4
#define PAGE_MEMCG_ID_SHIFT 3

struct page_info {
	u64 flags; /* page->flags */
	u64 memcg;
	u8 pageblock_migratetype;
	u8 padding[7];
};

struct page_scan {
	u32 nr, padding;
	u64 pfn[PAGE_SCAN_BATCH];
	struct page_info info[PAGE_SCAN_BATCH];
};

#endif
