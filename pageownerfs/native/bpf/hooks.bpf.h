/* SPDX-License-Identifier: MIT */
/*
 * What the two tracepoints don't show: bulk allocation, contiguous ranges, splits, migration.
 *
 * These are fentry and fexit programs, attached where the kernel has the function and allows hooks.
 * Without them, mapped pages are followed through the tracepoints of migration entries. The daemon
 * chooses, see sources/kernel/features.py. Arguments are read with bpf_get_func_arg(), as numbers,
 * because the verifier allows no arithmetic on struct page pointers.
 */
#ifndef PAGEOWNERFS_HOOKS_BPF_H
#define PAGEOWNERFS_HOOKS_BPF_H

#include "bpf/compound_page.bpf.h"

/* The reason of the migrate_pages() call that a thread is in. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, s32);
} migrate_reasons SEC(".maps");

/* Pages behind migration entries that a thread has set, by address, until it removes them. */
struct migration_entry {
	u64 address;
	u64 pid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct migration_entry);
	__type(value, u32);
} migration_entries SEC(".maps");

static __always_inline u64 argument(void *ctx, u32 number)
{
	u64 value = 0;

	bpf_get_func_arg(ctx, number, &value);
	return value;
}

static __always_inline u64 returned(void *ctx)
{
	u64 value = 0;

	bpf_get_func_ret(ctx, &value);
	return value;
}

/* A range of PFNs, and what to write for each. */
struct range {
	struct new_owner new;
	u64 pages; /* array of struct page pointers */
	u32 pfn, source;
	s32 reason;
};

static __always_inline void new_owner_of(struct range *range, void *ctx, struct cpu_state *state,
					 enum program program, u32 gfp_mask)
{
	range->new.gfp_mask = gfp_mask;
	range->new.ts_nsec = bpf_ktime_get_ns();
	read_task(&range->new);
	range->new.handle = save_stack(ctx, state, program,
				       program == PROGRAM_BULK ? ANCHOR_CONTEXT : ANCHOR_NONE);
}

/* ---- alloc_pages_bulk() ---- */

static long bulk_page(u32 index, const struct range *range)
{
	u64 page = read_word(range->pages + index * 8UL);
	struct page_owner *owner;

	if (!page)
		return 0;
	owner = get_page_owner(page_to_pfn(page));
	/* Tracked pages were already in the array, or came through mm_page_alloc. */
	if (owner && !is_tracked(owner))
		write_owner(owner, &range->new);
	return 0;
}

SEC("fexit/alloc_pages_bulk_noprof")
int hook_bulk(void *ctx)
{
	u64 nr = returned(ctx);
	struct cpu_state *state = get_state(PROGRAM_BULK);
	struct range range = {.pages = argument(ctx, config.bulk_array)};

	if (!state || !range.pages || !nr || nr > 1U << 20)
		return 0;
	new_owner_of(&range, ctx, state, PROGRAM_BULK, (u32)argument(ctx, 0));
	state->counter[COUNT_EVENTS]++;
	if (filtered_out(&range.new))
		return 0;
	bpf_loop((u32)nr, bulk_page, &range, 0);
	return 0;
}

/* ---- alloc_contig_range() ---- */

static long contig_page(u32 index, const struct range *range)
{
	struct page_owner *owner = get_page_owner(range->pfn + index);

	if (!owner)
		return 1;
	write_owner(owner, &range->new);
	return 0;
}

#define GFP_COMP 0x40000U

SEC("fexit/alloc_contig_frozen_range_noprof")
int hook_contig(void *ctx)
{
	u64 start = argument(ctx, 0), end = argument(ctx, 1);
	struct cpu_state *state = get_state(PROGRAM_CONTIG);
	struct range range = {.pfn = (u32)start};
	u32 gfp_mask = (u32)argument(ctx, 3);

	if (!state || (s32)returned(ctx) || end <= start || end - start > 1U << 23)
		return 0;
	if (gfp_mask & GFP_COMP)
		while (range.new.order < 23 && 1UL << range.new.order < end - start)
			range.new.order++;
	new_owner_of(&range, ctx, state, PROGRAM_CONTIG, gfp_mask);
	state->counter[COUNT_EVENTS]++;
	if (filtered_out(&range.new))
		return 0;
	bpf_loop((u32)(end - start), contig_page, &range, 0);
	return 0;
}

/* ---- split_page_owner() ---- */

static __always_inline int split_owner(u64 page, u32 new_order)
{
	u32 pfn = page_to_pfn(page);
	struct cpu_state *state = get_state(PROGRAM_SPLIT);
	struct page_owner *owner = get_page_owner(pfn);

	if (!owner || !state || !is_tracked(owner) || owner->order == 0 ||
	    owner->order > MAX_SPLIT_ORDER)
		return 0;
	state->counter[COUNT_EVENTS]++;
	split_page_owner(pfn, owner->order, new_order);
	return 0;
}

/*
 * split_page_memcg(page, ...) accompanies every split_page_owner(): in split_page(),
 * make_alloc_exact(), THP
 */
SEC("fentry/split_page_memcg")
int hook_split(void *ctx)
{
	return split_owner(argument(ctx, 0),
			   config.split_order_argument ? (u32)argument(ctx, 2) : 0);
}

/* since 6.16 folios have a function of their own */
SEC("fentry/folio_split_memcg_refs")
int hook_split_folio(void *ctx)
{
	return split_owner(argument(ctx, 0), (u32)argument(ctx, 2));
}

/* ---- __folio_copy_owner() ---- */

static __always_inline void copy_owner(struct page_owner *from, struct page_owner *to, s32 reason)
{
	struct new_owner new = {.ts_nsec = from->ts_nsec,
				.gfp_mask = from->gfp_mask,
				.handle = from->handle,
				.pid = from->pid,
				.tgid = from->tgid};
	u32 word = *(volatile u32 *)state_word(from) & ~(PAGE_EXT_OWNER_SUSPECT << STATE_SHIFT);

	if (!(word >> STATE_SHIFT & PAGE_EXT_OWNER_ALLOCATED)) {
		/* the source has no record, so neither has the copy */
		to->state &= ~PAGE_EXT_OWNER_ALLOCATED;
		return;
	}
	new.comm[0] = ((u64 *)from->comm)[0];
	new.comm[1] = ((u64 *)from->comm)[1];
	write_owner(to, &new);
	if (reason >= 0)
		word = (word & ~0xff00U) | (u32)(u8)reason << 8;
	*(volatile u32 *)state_word(to) = word | PAGE_EXT_OWNER_MIGRATED << STATE_SHIFT;
}

static long migrate_page(u32 index, const struct range *range)
{
	struct page_owner *from = get_page_owner(range->source + index),
			  *to = get_page_owner(range->pfn + index);

	if (!from || !to)
		return 1;
	copy_owner(from, to, range->reason);
	return 0;
}

static __always_inline s32 current_migrate_reason(void)
{
	u32 pid = (u32)bpf_get_current_pid_tgid();
	s32 *reason = bpf_map_lookup_elem(&migrate_reasons, &pid);

	return reason ? *reason : -1;
}

SEC("fexit/folio_migrate_flags")
int hook_migrate(void *ctx)
{
	u64 to = argument(ctx, 0), from = argument(ctx, 1);
	struct range range = {.pfn = page_to_pfn(to),
			      .source = page_to_pfn(from),
			      .reason = current_migrate_reason()};
	struct cpu_state *state = get_state(PROGRAM_MIGRATE);

	if (!state)
		return 0;
	state->counter[COUNT_EVENTS]++;
	bpf_loop(1U << folio_order(to), migrate_page, &range, 0);
	return 0;
}

SEC("raw_tp/mm_migrate_pages_start")
int migrate_start(struct bpf_raw_tracepoint_args *ctx)
{
	u32 pid = (u32)bpf_get_current_pid_tgid();
	s32 reason = (s32)ctx->args[1];

	bpf_map_update_elem(&migrate_reasons, &pid, &reason, BPF_ANY);
	return 0;
}

/*
 * Without the hook, a mapped page is identified by the migration entry that replaces it meanwhile.
 */
#define PTE_PFN_SHIFT 12
#define PTE_PFN_MASK ((1UL << 40) - 1)

SEC("raw_tp/set_migration_pte")
int migration_entry_set(struct bpf_raw_tracepoint_args *ctx)
{
	struct migration_entry entry = {.address = ctx->args[0], .pid = bpf_get_current_pid_tgid()};
	/* swp_offset() of x86-64, inverted against L1TF */
	u32 pfn = (u32)(((~ctx->args[1] << 5) >> 14) & PTE_PFN_MASK);

	bpf_map_update_elem(&migration_entries, &entry, &pfn, BPF_ANY);
	return 0;
}

SEC("raw_tp/remove_migration_pte")
int migration_entry_removed(struct bpf_raw_tracepoint_args *ctx)
{
	struct migration_entry entry = {.address = ctx->args[0], .pid = bpf_get_current_pid_tgid()};
	u32 pfn = (u32)(ctx->args[1] >> PTE_PFN_SHIFT & PTE_PFN_MASK);
	u32 *source = bpf_map_lookup_elem(&migration_entries, &entry);
	struct cpu_state *state = get_state(PROGRAM_MIGRATE);
	struct page_owner *from, *to;

	if (!source || !state)
		return 0;
	from = get_page_owner(*source);
	to = get_page_owner(pfn);
	/* A page mapped more than once is copied once: the old page will soon be free. */
	if (*source != pfn && from && to && from->state & PAGE_EXT_OWNER_ALLOCATED &&
	    !(to->state & PAGE_EXT_OWNER_MIGRATED && to->state & PAGE_EXT_OWNER_ALLOCATED)) {
		state->counter[COUNT_EVENTS]++;
		copy_owner(from, to, current_migrate_reason());
		/* The block may have been split unseen. The moved page has the right order. */
		to->order = (u8)page_order(pfn_to_page(pfn));
	}
	bpf_map_delete_elem(&migration_entries, &entry);
	return 0;
}

#endif
