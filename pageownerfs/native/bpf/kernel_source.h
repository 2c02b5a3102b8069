/* SPDX-License-Identifier: MIT */
/*
 * What the BPF programs of the kernel source share with the daemon: the maps' values and their
 * numbers. sources/kernel/maps.py has the same; a test compares.
 */
#ifndef PAGEOWNERFS_KERNEL_SOURCE_H
#define PAGEOWNERFS_KERNEL_SOURCE_H

#include "base/page_owner.h"

/* ---- set by the daemon ---- */

/* Constant once it is loaded: the verifier drops what it rules out. */
struct kernel_config {
	u32 nr_stack_buckets;  /* power of two */
	u32 stack_depth;       /* frames, 0: no stacks */
	u32 stack_walk;	       /* 0: always unwind */
	u32 stack_check_every; /* power of two: one walk in so many is compared with an unwinding */
	u32 text_high;	       /* upper half of every kernel text address */
	s32 filter_pid;	       /* of a thread or process; -1: any */
	s32 filter_order;      /* -1: any */
	u32 filter_comm;       /* whether filter_comm_name counts */
	char filter_comm_name[TASK_COMM_LEN];
	u32 user_depth; /* frames of the user stack, 0: none */
	u32 bulk_array; /* number of alloc_pages_bulk()'s argument page_array */
	u32 pageblock_order;
	u32 section_shift;	  /* log2 of the pages of a memory section */
	u32 split_order_argument; /* whether split_page_memcg() has the new order */
	u32 padding;
	u64 pid_ns_dev; /* the daemon's PID namespace; 0: that of the machine */
	u64 pid_ns_ino;
};

/* Found by programs, before others run. */
struct kernel_addresses {
	u64 vmemmap_base; /* struct page of PFN 0 */
	u64 mem_section;  /* the variable; 0: not found */
};

/* ---- the stack depot ---- */

#define STACK_WAYS 4
/* Numbers that no stack has: none, programs, the handles below. */
#define STACK_RESERVED_BUCKETS 8
#define HANDLE_EARLY 30
#define HANDLE_FAILURE 31
#define MAX_STACK_DEPTH 68   /* 64 and what STACK_EXTRA_FRAMES adds */
#define STACK_EXTRA_FRAMES 2 /* of the tracepoint; left out by name when printed */
#define STACK_SKIP_FRAMES 2
#define STACK_WINDOW_WORDS 512 /* of the stack that frames are looked for in */

struct stack_node {
	/* number of the callee's node << 32 | lower half of the return address; 0: empty */
	u64 key;
	u64 next; /* where the next return address lies: NEXT_* */
};

/*
 * Fields of stack_node.next, in words; 0: not known. UP: from the node's own return address, or
 * from the top.
 */
#define NEXT_UP(next) ((next) & 0x7ff)
#define NEXT_OTHER_UP(next) ((next) >> 11 & 0x7ff)
#define NEXT_FROM_TOP 0x400
#define NEXT_WORDS(up) ((up) & 0x3ff)
/* the stack ends here if this is the distance from the top */
#define NEXT_OUTERMOST(next) ((next) >> 22 & 0x7f)
#define NEXT_CANDIDATE(next) ((next) >> 29 & 0x3ff) /* not certain yet, ... */
/* ... last seen in a context with this hash, ... */
#define NEXT_WHERE(next) ((next) >> 39 & 0xfff)
#define NEXT_TIMES(next) ((next) >> 51 & 0x3) /* ... and so often before */
#define NEXT_MAKE(up, other, outermost, candidate, where, times)                                   \
	((u64)(up) | (u64)(other) << 11 | (u64)(outermost) << 22 | (u64)(candidate) << 29 |        \
	 (u64)(where) << 39 | (u64)(times) << 51)

struct stack_bucket {
	struct stack_node node[STACK_WAYS];
};

/* ---- programs: each has a state per CPU, and can't interrupt itself ---- */

enum program {
	PROGRAM_NONE,
	PROGRAM_ALLOC,
	PROGRAM_FREE,
	PROGRAM_ALLOC_AGAIN,
	PROGRAM_FREE_AGAIN,
	PROGRAM_BULK,
	PROGRAM_CONTIG,
	PROGRAM_MIGRATE,
	PROGRAM_SPLIT,
	NR_PROGRAMS = 16
};

enum counter {
	COUNT_EVENTS,	    /* allocations or frees seen */
	COUNT_TAIL_PAGES,   /* base pages beside the first of each */
	COUNT_FILTERED,	    /* allocations that the mount's filter leaves out */
	COUNT_RECOVERED,    /* events that the first copy of a program has missed */
	COUNT_UNTRACKED,    /* frees of pages whose allocation was not seen */
	COUNT_OUT_OF_RANGE, /* PFNs beyond the table */
	COUNT_STACK_WALKED,
	COUNT_STACK_UNWOUND,
	COUNT_STACK_CHECKED, /* walked, and unwound to compare */
	COUNT_STACK_WRONG,   /* of those: not the same */
	/* unwound, but its frames were not found on the stack: of an interrupt, say */
	COUNT_STACK_UNCLEAR,
	COUNT_STACK_UNSTEADY, /* frames at more than two distances */
	COUNT_STACK_FAILED,   /* no stack from the kernel */
	COUNT_STACK_DEPOT_FULL,
	NR_COUNTERS = 24
};

/* A stack that is being unwound and put into the depot: what the callbacks of the loops hand on. */
struct unwinding {
	u64 context;  /* address of the program's context, 0: not to be learned from */
	u64 position; /* of the frame before, in words from the context */
	u32 nr;	      /* frames in ip[] */
	u32 words;    /* in window[] */
	u32 frame;    /* to be located next */
	u32 number;   /* node of the frame before */
	u32 located, complete, certain;
	u32 padding;
};

struct cpu_state {
	u64 context;
	u64 counter[NR_COUNTERS];
	struct unwinding unwinding;
	u64 ip[MAX_STACK_DEPTH];
	u64 window[STACK_WINDOW_WORDS];
	u16 low[MAX_STACK_DEPTH]; /* where each frame may lie, in words from the context */
	u16 high[MAX_STACK_DEPTH];
	u16 padding[12];
};

/* ---- scans ---- */

#define CALIBRATION_PAGES 128
#define NO_MIGRATETYPE 0xff /* not known */

struct scan_request {
	u64 start, end; /* PFNs, or addresses of code */
	u64 next;	/* first PFN that scan_early does not know to be free */
	u64 pid_tgid;	/* of the daemon, where all PIDs are seen: found by calibrate */
	u64 nr_marked, nr_stale, nr_suspects;
	u32 again;	 /* after the start */
	u32 owners_only; /* pages without a record are none of ours: of a filter */
	u32 tgid, nr_pages;
	u64 page[CALIBRATION_PAGES];
};

struct cgroup_name {
	char name[80];
};

#endif
