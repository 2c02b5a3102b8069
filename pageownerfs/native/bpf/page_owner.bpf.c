// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * page_owner.bpf.c - page owner for a running kernel: keeps a record per page.
 *
 * Mirrors mm/page_owner.c from outside: the tracepoints mm_page_alloc and mm_page_free stand for
 * __set_page_owner() and __reset_page_owner(). hooks.bpf.h adds what they don't show; scan.bpf.h
 * looks at struct page. Some helpers used here are only available to programs under the GPL.
 */
#include "bpf/kernel_types.bpf.h"
#include "base/page_owner.h"
#include "bpf/kernel_source.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile struct kernel_config config SEC(".rodata.config") = {};
const volatile struct comm_filter comm_filter SEC(".rodata.comm_filter") = {};
struct kernel_addresses addresses = {};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct page_owner);
} page_ext SEC(".maps");

/*
 * Thread and process of current in the daemon's PID namespace, which is the one of the pids that
 * users give. False: current is not in it.
 */
static __always_inline bool current_ids(struct bpf_pidns_info *ids)
{
	u64 pid = bpf_get_current_pid_tgid();

	if (config.pid_ns_ino)
		return bpf_get_ns_current_pid_tgid(config.pid_ns_dev, config.pid_ns_ino, ids,
						   sizeof(*ids)) == 0;
	ids->pid = (u32)pid;
	ids->tgid = (u32)(pid >> 32);
	return true;
}

#include "bpf/stacks.bpf.h"

static __always_inline u64 pfn_to_page(u64 pfn)
{
	return addresses.vmemmap_base + pfn * bpf_core_type_size(struct page);
}

static __always_inline u32 page_to_pfn(u64 page)
{
	u64 bytes = page - addresses.vmemmap_base, size = bpf_core_type_size(struct page);

	return (u32)(size == 64 ? bytes >> 6 : bytes / size);
}

static __always_inline struct page_owner *get_page_owner(u32 pfn)
{
	return bpf_map_lookup_elem(&page_ext, &pfn);
}

static __always_inline struct cpu_state *get_state(enum program program)
{
	u32 index = bpf_get_smp_processor_id() * NR_PROGRAMS + program;

	return bpf_map_lookup_elem(&cpu_states, &index);
}

/*
 * The word with order, last_migrate_reason, state and pageblock_migratetype, so that they can
 * change at once.
 */
static __always_inline u32 *state_word(struct page_owner *owner)
{
	return (u32 *)&owner->order;
}

#define STATE_WORD(order, state, migratetype)                                                      \
	((u32)(u8)(order) | 0xffU << 8 | (u32)(state) << 16 | (u32)(u8)(migratetype) << 24)
#define STATE_SHIFT 16

/* What the records of all pages of a block have in common. */
struct new_owner {
	u64 ts_nsec;
	u64 comm[2];
	u32 gfp_mask, handle, order, migratetype;
	s32 pid, tgid;
};

/* Read current: with a single helper, if the kernel lets programs read its fields. */
static __always_inline void read_task(struct new_owner *new)
{
	if (bpf_rdonly_cast) {
		u64 task = bpf_get_current_task();
		u64 pid = read_word(task + bpf_core_field_offset(struct task_struct, pid));

		new->pid = (s32)pid;
		if (bpf_core_field_offset(struct task_struct, tgid) ==
		    bpf_core_field_offset(struct task_struct, pid) + 4)
			new->tgid = (s32)(pid >> 32);
		else
			new->tgid = (s32)read_word(task +
						   bpf_core_field_offset(struct task_struct, tgid));
		new->comm[0] = read_word(task + bpf_core_field_offset(struct task_struct, comm));
		new->comm[1] =
			read_word(task + bpf_core_field_offset(struct task_struct, comm) + 8);
	} else {
		u64 pid = bpf_get_current_pid_tgid();

		new->pid = (s32)pid;
		new->tgid = (s32)(pid >> 32);
		bpf_get_current_comm(new->comm, sizeof(new->comm));
	}
}

/* The cgroup whose tasks are tracked; the map exists only with that filter. */
struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} filter_cgroup SEC(".maps");

/* The mount's filter. Allocations that don't match it are treated as if they had not happened. */
static __always_inline bool has_filter(void)
{
	return config.filter_pid >= 0 || config.filter_order >= 0 || config.filter_comm ||
	       config.filter_cgroup;
}

static __always_inline bool comm_matches(const char comm[TASK_COMM_LEN])
{
	u64 state[COMM_WORDS], found = 0;

#pragma unroll
	for (u32 word = 0; word < COMM_WORDS; word++)
		state[word] = comm_filter.start[word];
	for (u32 i = 0; i < TASK_COMM_LEN && comm[i]; i++) {
		u8 byte = (u8)comm[i];

#pragma unroll
		for (u32 word = 0; word < COMM_WORDS; word++)
			if (word < config.filter_comm)
				state[word] = (state[word] & comm_filter.advance[byte][word]) << 1 |
					      (state[word] & comm_filter.stay[word]);
	}
#pragma unroll
	for (u32 word = 0; word < COMM_WORDS; word++)
		found |= state[word] & comm_filter.end[word];
	return found;
}

static __always_inline bool filtered_out(const struct new_owner *new)
{
	if (config.filter_pid >= 0) {
		struct bpf_pidns_info ids = {};
		u32 wanted = (u32)config.filter_pid;

		if (!current_ids(&ids) || (ids.pid != wanted && ids.tgid != wanted))
			return true;
	}
	if (config.filter_order >= 0 && new->order != (u32)config.filter_order)
		return true;
	/* below the cgroup, too; a negative errno is no match */
	if (config.filter_cgroup && bpf_current_task_under_cgroup(&filter_cgroup, 0) != 1)
		return true;
	return config.filter_comm && !comm_matches((const char *)new->comm);
}

/*
 * Fill a record. It is marked as not allocated first and as allocated last, so readers never see a
 * mixture.
 */
static __always_inline void write_owner(struct page_owner *owner, const struct new_owner *new)
{
	u8 state = owner->state & PAGE_EXT_OWNER_FREED;

	owner->state = state;
	barrier();
	*(volatile u64 *)&owner->ts_nsec = new->ts_nsec;
	barrier();
	owner->gfp_mask = new->gfp_mask;
	owner->pid = new->pid;
	owner->tgid = new->tgid;
	owner->handle = new->handle;
	((u64 *)owner->comm)[0] = new->comm[0];
	((u64 *)owner->comm)[1] = new->comm[1];
	barrier();
	*(volatile u32 *)state_word(owner) =
		STATE_WORD(new->order, state | PAGE_EXT_OWNER_ALLOCATED, new->migratetype);
}

static __always_inline bool is_tracked(const struct page_owner *owner)
{
	return (owner->state & (PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY)) ==
	       PAGE_EXT_OWNER_ALLOCATED;
}

#define MAX_BLOCK (1U << 10)

/*
 * Blocks of more than 2^10 pages are rare: gigantic pages, and whatever the configuration allows.
 */
#define MAX_LARGE_ORDER 23

struct large_block {
	struct new_owner owner;
	u32 pfn;
	bool is_free;
};

/* __reset_page_owner(): the fields of the allocation stay, beside those of the free. */
static __always_inline void write_free(struct page_owner *owner, const struct new_owner *task)
{
	owner->state = PAGE_EXT_OWNER_FREED;
	barrier();
	owner->free_ts_nsec = task->ts_nsec;
	owner->free_handle = task->handle;
	owner->free_pid = task->pid;
	owner->free_tgid = task->tgid;
}

static long write_large(u32 index, const struct large_block *block)
{
	struct page_owner *owner = get_page_owner(block->pfn + MAX_BLOCK + index);

	if (!owner)
		return 1;
	if (block->is_free)
		write_free(owner, &block->owner);
	else
		write_owner(owner, &block->owner);
	return 0;
}

/* Do for the other pages of a large block what was done for its first MAX_BLOCK pages. */
static __always_inline void write_rest(u32 pfn, u32 order, const struct new_owner *owner,
				       bool is_free)
{
	struct large_block block = {.pfn = pfn, .is_free = is_free};

	if (is_free) {
		/* the other fields are not initialized */
		block.owner.ts_nsec = owner->ts_nsec;
		block.owner.handle = owner->handle;
		block.owner.pid = owner->pid;
		block.owner.tgid = owner->tgid;
	} else {
		block.owner = *owner;
	}
	if (order > 10 && order <= MAX_LARGE_ORDER)
		bpf_loop((1U << (order & 31)) - MAX_BLOCK, write_large, &block, 0);
}

/* __set_page_owner() */
static __always_inline int set_page_owner(void *ctx, enum program program, enum anchor anchor,
					  u32 pfn, struct new_owner new)
{
	struct page_owner *owner = get_page_owner(pfn);
	struct cpu_state *state;

	if (program == PROGRAM_ALLOC_AGAIN && owner && is_tracked(owner))
		return 0;
	state = get_state(program);
	if (!state)
		return 0;
	if (!owner) {
		state->counter[COUNT_OUT_OF_RANGE]++;
		return 0;
	}
	read_task(&new);
	if (filtered_out(&new)) {
		/* No record shows the second copy whether the first one has seen it. */
		if (program == PROGRAM_ALLOC)
			state->counter[COUNT_FILTERED]++;
		owner->state &= ~PAGE_EXT_OWNER_ALLOCATED;
		return 0;
	}
	if (program == PROGRAM_ALLOC_AGAIN)
		state->counter[COUNT_RECOVERED]++;
	state->counter[COUNT_EVENTS]++;
	new.ts_nsec = bpf_ktime_get_ns();
	new.handle = save_stack(ctx, state, PROGRAM_ALLOC, anchor);
	if (config.user_depth)
		new.handle = add_user_stack(ctx, state, new.handle, (u32) new.tgid);
	write_owner(owner, &new);
	if (new.order == 0)
		return 0;
	state->counter[COUNT_TAIL_PAGES] += (1ULL << (new.order & 31)) - 1;
	for (u32 nr = 1; nr < MAX_BLOCK && nr < 1U << (new.order & 31); nr++) {
		owner = get_page_owner(pfn + nr);
		if (!owner)
			break;
		write_owner(owner, &new);
	}
	if (new.order > 10)
		write_rest(pfn, new.order, &new, false);
	return 0;
}

struct split {
	u32 pfn, order, new_order;
};

static long split_one(u32 index, const struct split *split)
{
	struct page_owner *owner = get_page_owner(split->pfn + index);

	if (!owner)
		return 1;
	if (owner->order == split->order)
		owner->order = (u8)split->new_order;
	return 0;
}

#define MAX_SPLIT_ORDER 20

/* split_page_owner(), for the block of this order that contains the page */
static __always_inline void split_page_owner(u32 pfn, u32 order, u32 new_order)
{
	struct split split = {
		.pfn = pfn & ~((1U << (order & 31)) - 1), .order = order, .new_order = new_order};

	if (order <= MAX_SPLIT_ORDER)
		bpf_loop(1U << (order & 31), split_one, &split, 0);
}

static __always_inline int reset_page_owner(void *ctx, enum program program, enum anchor anchor,
					    u32 pfn, u32 order)
{
	struct page_owner *owner = get_page_owner(pfn);
	struct cpu_state *state;
	struct new_owner task;
	u64 pid;

	if (program == PROGRAM_FREE_AGAIN && owner && !(owner->state & PAGE_EXT_OWNER_ALLOCATED))
		return 0;
	/* Read the clock before the record: it waits for all earlier reads. */
	task.ts_nsec = bpf_ktime_get_ns();
	state = get_state(program);
	if (!state)
		return 0;
	if (!owner) {
		state->counter[COUNT_OUT_OF_RANGE]++;
		return 0;
	}
	if (!(owner->state & PAGE_EXT_OWNER_ALLOCATED)) {
		state->counter[COUNT_UNTRACKED]++;
		/* With a filter, frees of untracked pages are not recorded either. */
		if (has_filter())
			return 0;
	} else if (program == PROGRAM_FREE_AGAIN) {
		state->counter[COUNT_RECOVERED]++;
	}
	state->counter[COUNT_EVENTS]++;
	/*
	 * Part of a block is freed, so the block was split and no hook reported it. Without this,
	 * the old record would hide the next owner of the part from readers. The orders it was
	 * split into are unknown, so each page becomes its own block.
	 */
	if (owner->order > order && is_tracked(owner))
		split_page_owner(pfn, owner->order, 0);
	pid = bpf_get_current_pid_tgid();
	task.pid = (s32)pid;
	task.tgid = (s32)(pid >> 32);
	task.handle = config.free_stacks ? save_stack(ctx, state, PROGRAM_FREE, anchor) : 0;
	write_free(owner, &task);
	if (order == 0)
		return 0;
	state->counter[COUNT_TAIL_PAGES] += (1ULL << (order & 31)) - 1;
	for (u32 nr = 1; nr < MAX_BLOCK && nr < 1U << (order & 31); nr++) {
		owner = get_page_owner(pfn + nr);
		if (!owner)
			break;
		write_free(owner, &task);
	}
	if (order > 10)
		write_rest(pfn, order, &task, true);
	return 0;
}

/* A raw tracepoint has the arguments of trace_mm_page_alloc(): page, order, gfp_mask, migratetype.
 */
static __always_inline int raw_page_alloc(struct bpf_raw_tracepoint_args *ctx, enum program program,
					  enum anchor anchor)
{
	struct new_owner new = {.order = (u32)ctx->args[1],
				.gfp_mask = (u32)ctx->args[2],
				.migratetype = (u32)ctx->args[3]};

	if (!ctx->args[0])
		return 0; /* a failed allocation is an event too */
	return set_page_owner(ctx, program, anchor, page_to_pfn(ctx->args[0]), new);
}

SEC("raw_tp/mm_page_alloc")
int page_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	return raw_page_alloc(ctx, PROGRAM_ALLOC, ANCHOR_CONTEXT);
}

SEC("raw_tp/mm_page_free")
int page_free(struct bpf_raw_tracepoint_args *ctx)
{
	return reset_page_owner(ctx, PROGRAM_FREE, ANCHOR_CONTEXT, page_to_pfn(ctx->args[0]),
				(u32)ctx->args[1]);
}

/*
 * In place of the two above, where the kernel calls raw programs with preemption on: these are
 * called by perf, which switches it off first. Otherwise a task that is preempted inside a program
 * makes that program miss all events of the CPU until the task continues.
 */
SEC("tp/kmem/mm_page_alloc")
int page_alloc_tp(struct trace_event_raw_mm_page_alloc *ctx)
{
	struct new_owner new = {.order = ctx->order,
				.gfp_mask = (u32)ctx->gfp_flags,
				.migratetype = (u32)ctx->migratetype};

	if (ctx->pfn == ~0UL)
		return 0;
	return set_page_owner(ctx, PROGRAM_ALLOC, ANCHOR_REGS, (u32)ctx->pfn, new);
}

SEC("tp/kmem/mm_page_free")
int page_free_tp(struct trace_event_raw_mm_page_free *ctx)
{
	return reset_page_owner(ctx, PROGRAM_FREE, ANCHOR_REGS, (u32)ctx->pfn, ctx->order);
}

/*
 * A program does not run while it already runs on the same CPU, so it misses what an interrupt
 * allocates or frees meanwhile. The second copies run after the first ones, and act only if the
 * record shows that the first did not.
 */
SEC("raw_tp/mm_page_alloc")
int page_alloc_again(struct bpf_raw_tracepoint_args *ctx)
{
	return raw_page_alloc(ctx, PROGRAM_ALLOC_AGAIN, ANCHOR_NONE);
}

SEC("raw_tp/mm_page_free")
int page_free_again(struct bpf_raw_tracepoint_args *ctx)
{
	return reset_page_owner(ctx, PROGRAM_FREE_AGAIN, ANCHOR_NONE, page_to_pfn(ctx->args[0]),
				(u32)ctx->args[1]);
}

#include "bpf/hooks.bpf.h"
#include "bpf/scan.bpf.h"
