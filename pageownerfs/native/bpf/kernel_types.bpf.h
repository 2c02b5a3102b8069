/* SPDX-License-Identifier: MIT */
/*
 * The few kernel types that the BPF programs look into, by name. libbpf adjusts the offsets to the
 * running kernel (CO-RE), so neither kernel headers nor a vmlinux.h are needed. Only the fields in
 * use are listed.
 */
#ifndef PAGEOWNERFS_KERNEL_TYPES_BPF_H
#define PAGEOWNERFS_KERNEL_TYPES_BPF_H

#include <linux/bpf.h>
#include <stdbool.h>
/* bpf_helpers.h needs the integer types */
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "base/types.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

/* flags is the first word in every kernel */
struct page {
	unsigned long compound_head;
	unsigned long private;
	unsigned int page_type;
	atomic_t _refcount;
	unsigned long memcg_data;
};

/* since 7.1 in place of compound_head */
struct page___7_1 {
	unsigned long compound_info;
};

struct task_struct {
	int pid;
	int tgid;
	char comm[16];
};

struct pt_regs {
	unsigned long sp;
};

/* Contexts of programs that perf calls on tracepoints. */
struct trace_event_raw_mm_page_alloc {
	unsigned long pfn;
	unsigned int order;
	unsigned long gfp_flags;
	int migratetype;
};

struct trace_event_raw_mm_page_free {
	unsigned long pfn;
	unsigned int order;
};

struct kernfs_node {
	const char *name;
	u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	unsigned int flags;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
};

struct obj_cgroup {
	struct mem_cgroup *memcg;
};

struct obj_cgroup___7_1 {
	bool is_root;
};

struct mem_section_usage {
	unsigned long pageblock_flags[1];
};

struct mem_section {
	unsigned long section_mem_map;
	struct mem_section_usage *usage;
};

/* Any type that starts with a signed 64-bit number will do: see read_word(). */
struct timespec64 {
	s64 tv_sec;
};

#pragma clang attribute pop

enum pageflags { PG_head, PG_reserved };

/* The page types of 6.12 and later, and of 6.10. */
enum pagetype { PGTY_buddy, PGTY_guard, PGTY_offline };
enum pagetype___6_10 { PG_buddy };

enum pageblock_bits { PB_migrate, PB_migrate_isolate, NR_PAGEBLOCK_BITS };

enum migratetype { MIGRATE_ISOLATE };

#endif
