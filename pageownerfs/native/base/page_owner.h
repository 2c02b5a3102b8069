/* SPDX-License-Identifier: MIT */
/*
 * struct page_owner: the record of one page. 64 bytes, one cache line.
 *
 * This is the only definition. The pool's shared memory, the renderer, the BPF programs and (by
 * offset) Python all use it. It combines struct page_owner of mm/page_owner.c with the page_ext
 * flag bits.
 *
 * Writers own the page: they clear PAGE_EXT_OWNER_ALLOCATED, then store ts_nsec, then the other
 * fields, and state last. Readers use copy_allocated() in tables/page_ext_table.h, which never
 * returns a torn record.
 */
#ifndef PAGEOWNERFS_PAGE_OWNER_H
#define PAGEOWNERFS_PAGE_OWNER_H

#include "base/types.h"

#define TASK_COMM_LEN 16

/* page_owner.state */
#define PAGE_EXT_OWNER_ALLOCATED 1 /* allocated now; the record says by whom */
#define PAGE_EXT_OWNER_FREED 2	   /* freed at least once since tracking began */
#define PAGE_EXT_OWNER_EARLY 4	   /* found allocated when tracking was switched on */
#define PAGE_EXT_OWNER_MIGRATED 8
/* record and page disagreed at the last scan: corrected if they still do at the next */
#define PAGE_EXT_OWNER_SUSPECT 16
#define PAGE_EXT_OWNER_VERBATIM 32 /* in a record_list: the original text is kept */

struct page_owner {
	u64 ts_nsec;	  /* CLOCK_MONOTONIC at allocation */
	u64 free_ts_nsec; /* at the last free */
	u32 gfp_mask;	  /* as given */
	s32 pid;	  /* allocating thread and process */
	s32 tgid;
	u32 handle; /* in the stack depot, 0 = none */
	union {
		struct {
			u32 free_handle;
			s32 free_pid;
			s32 free_tgid;
		};
		/* in a record_list, which is not indexed by PFN: see record_list.h */
		struct {
			u32 pfn_low, pfn_high;
			u32 info;
		};
	};
	u8 order;		/* of the allocation; every page of the block has a record */
	s8 last_migrate_reason; /* -1 = never */
	u8 state;
	u8 pageblock_migratetype;
	char comm[TASK_COMM_LEN]; /* NUL-padded */
};

#ifndef __bpf__
_Static_assert(sizeof(struct page_owner) == 64, "the record is one cache line");
#endif

#endif
