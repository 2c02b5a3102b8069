/* SPDX-License-Identifier: MIT */
/*
 * struct page_owner: the record of one page, 64 bytes, one cache line.
 *
 * The only definition: the pool's shared memory, the renderer and (by its offsets) Python read it.
 * Mirrors struct page_owner of mm/page_owner.c and the page_ext flag bits in one place.
 *
 * Writing: whoever owns the page clears PAGE_EXT_OWNER_ALLOCATED first, then stores ts_nsec, then
 * the rest, and state last. Reading: see page_owner_copy() in render.c. No reader sees a torn
 * record.
 */
#ifndef PAGEOWNERFS_PAGE_OWNER_H
#define PAGEOWNERFS_PAGE_OWNER_H

#include "base/types.h"

#define TASK_COMM_LEN 16

/* page_owner.state */
#define PAGE_EXT_OWNER_ALLOCATED 1 /* allocated now, and this says by whom */
#define PAGE_EXT_OWNER_FREED 2	   /* freed at least once since tracking began */
#define PAGE_EXT_OWNER_EARLY 4	   /* found allocated when tracking was switched on */
#define PAGE_EXT_OWNER_MIGRATED 8
/* record and page don't fit: the record changes if they don't again */
#define PAGE_EXT_OWNER_SUSPECT 16
#define PAGE_EXT_OWNER_VERBATIM 32 /* in a record_list: its text is kept as it was read */

struct page_owner {
	u64 ts_nsec;	  /* CLOCK_MONOTONIC at allocation */
	u64 free_ts_nsec; /* at the last free */
	u32 gfp_mask;	  /* as given */
	s32 pid;	  /* thread and process that allocated */
	s32 tgid;
	u32 handle; /* into the stack depot, 0 = none */
	union {
		struct {
			u32 free_handle;
			s32 free_pid;
			s32 free_tgid;
		};
		/* in a record_list, where the place does not tell the PFN: see record_list.h */
		struct {
			u32 pfn_low, pfn_high;
			u32 info;
		};
	};
	u8 order;		/* of the allocation; every page of the block has its record */
	s8 last_migrate_reason; /* -1 = never */
	u8 state;
	u8 pageblock_migratetype;
	char comm[TASK_COMM_LEN]; /* NUL-padded */
};

#ifndef __bpf__
_Static_assert(sizeof(struct page_owner) == 64, "the record is one cache line");
#endif

#endif
