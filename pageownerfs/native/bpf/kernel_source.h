/* SPDX-License-Identifier: MIT */
/*
 * What the BPF programs of the kernel source share with the daemon: the values of the maps, and
 * constants. sources/kernel/maps.py mirrors this file; a test compares them.
 */
#ifndef PAGEOWNERFS_KERNEL_SOURCE_H
#define PAGEOWNERFS_KERNEL_SOURCE_H

#include "base/page_owner.h"

/* ---- set by the daemon ---- */

/* Constant once the programs are loaded, so the verifier drops code that these values rule out. */
struct kernel_config {
	u32 nr_stack_buckets;  /* a power of two */
	u32 stack_depth;       /* frames; 0: no stacks */
	u32 free_stacks;       /* whether frees have stacks, too */
	u32 stack_walk;	       /* 0: always unwind */
	u32 stack_check_every; /* a power of two: one in this many walks is checked by unwinding */
	u32 text_high;	       /* upper half of every kernel text address */
	s32 filter_pid;	       /* a thread or process; -1: any */
	s32 filter_order;      /* -1: any */
	u32 filter_comm;       /* words of comm_filter in use; 0: any */
	u32 filter_cgroup;     /* whether filter_cgroup has the cgroup */
	u32 user_depth;	       /* frames of the user stack; 0: none */
	u32 bulk_array;	       /* index of alloc_pages_bulk()'s argument page_array */
	u32 pageblock_order;
	u32 section_shift;	  /* log2 of the number of pages in a memory section */
	u32 split_order_argument; /* whether split_page_memcg() takes the new order */
	u32 padding;
	u64 pid_ns_dev; /* the daemon's PID namespace; 0: the initial one */
	u64 pid_ns_ino;
};

#define COMM_WORDS 4

/*
 * The thread names that the filter lets pass, for a match without a branch: a bit of the state
 * means that the name so far matches a pattern up to there.
 */
struct comm_filter {
	u64 advance[256][COMM_WORDS]; /* bits that this byte moves one further */
	u64 start[COMM_WORDS];
	u64 stay[COMM_WORDS]; /* bits that every byte keeps: a * follows */
	u64 end[COMM_WORDS];
};

/* Set by programs that run before the others. */
struct kernel_addresses {
	u64 vmemmap_base; /* the struct page of PFN 0 */
	u64 mem_section;  /* the address of the variable; 0: not found */
};

/* ---- the stack depot ---- */

#define STACK_WAYS 4
/* Node numbers that no stack gets: none, the programs, the handles below. */
#define STACK_RESERVED_BUCKETS 8
#define HANDLE_EARLY 30
#define HANDLE_FAILURE 31
#define MAX_STACK_DEPTH 68   /* 64, plus STACK_EXTRA_FRAMES */
#define STACK_EXTRA_FRAMES 2 /* the tracepoint's own; left out by name when printed */
#define STACK_SKIP_FRAMES 2
#define STACK_WINDOW_WORDS 512 /* how much of the stack is searched for frames */

struct stack_node {
	/* number of the callee's node << 32 | lower half of the return address; 0: empty */
	u64 key;
	u64 next; /* where the next return address is: NEXT_* */
};

/*
 * Fields of stack_node.next, in words; 0: not known. NEXT_UP and NEXT_OTHER_UP are distances from
 * the node's own return address or, with NEXT_FROM_TOP, from the top of the stack.
 */
#define NEXT_UP(next) ((next) & 0x7ff)
#define NEXT_OTHER_UP(next) ((next) >> 11 & 0x7ff)
#define NEXT_FROM_TOP 0x400
#define NEXT_WORDS(up) ((up) & 0x3ff)
/* the stack ends here if it is this far from the top */
#define NEXT_OUTERMOST(next) ((next) >> 22 & 0x7f)
#define NEXT_CANDIDATE(next) ((next) >> 29 & 0x3ff) /* a distance that is not certain yet, ... */
/* ... last seen in a context with this hash, ... */
#define NEXT_WHERE(next) ((next) >> 39 & 0xfff)
#define NEXT_TIMES(next) ((next) >> 51 & 0x3) /* ... and seen this often before */
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
	COUNT_EVENTS,	    /* allocations and frees seen */
	COUNT_TAIL_PAGES,   /* base pages other than the first of each block */
	COUNT_FILTERED,	    /* allocations that don't match the mount's filter */
	COUNT_RECOVERED,    /* events that the first copy of a program missed */
	COUNT_UNTRACKED,    /* frees of pages whose allocation was not seen */
	COUNT_OUT_OF_RANGE, /* PFNs beyond the table */
	COUNT_STACK_WALKED,
	COUNT_STACK_UNWOUND,
	COUNT_STACK_CHECKED, /* walked, then unwound to compare */
	COUNT_STACK_WRONG,   /* of those, how many differed */
	/* unwound, but its frames were not found on the stack: in an interrupt, for example */
	COUNT_STACK_UNCLEAR,
	COUNT_STACK_UNSTEADY, /* a frame seen at more than two distances */
	COUNT_STACK_FAILED,   /* the kernel returned no stack */
	COUNT_STACK_DEPOT_FULL,
	NR_COUNTERS = 24
};

/* State of a stack while it is unwound and added to the depot, for the loop callbacks. */
struct unwinding {
	u64 context;  /* address of the program's context; 0: don't learn from this stack */
	u64 position; /* of the previous frame, in words from the context */
	u32 nr;	      /* number of frames in ip[] */
	u32 words;    /* number of words in window[] */
	u32 frame;    /* the next one to locate */
	u32 number;   /* node of the previous frame */
	u32 located, complete, certain;
	u32 padding;
};

struct cpu_state {
	u64 context;
	u64 counter[NR_COUNTERS];
	struct unwinding unwinding;
	u64 ip[MAX_STACK_DEPTH];
	u64 window[STACK_WINDOW_WORDS];
	u16 low[MAX_STACK_DEPTH]; /* where each frame may be, in words from the context */
	u16 high[MAX_STACK_DEPTH];
	u16 padding[12];
};

/* ---- scans ---- */

#define CALIBRATION_PAGES 128
#define NO_MIGRATETYPE 0xff /* not known */

struct scan_request {
	u64 start, end; /* PFNs, or code addresses */
	u64 next;	/* first PFN that scan_early does not know to be free */
	/* of the daemon, as seen in the initial PID namespace; found by calibrate */
	u64 pid_tgid;
	u64 nr_marked, nr_stale, nr_suspects;
	u32 again;	 /* this scan is not the first one */
	u32 owners_only; /* skip pages without a record: the filter has left them out */
	u32 tgid, nr_pages;
	u64 page[CALIBRATION_PAGES];
};

struct cgroup_name {
	char name[80];
};

#endif
