// SPDX-License-Identifier: MIT
/*
 * page_owner.c - the record of a page when the page changes hands.
 *
 * Mirrors mm/page_owner.c (6.12).
 */
#define _GNU_SOURCE
#include "pool/layout.h"

#if CONFIG_PAGE_OWNER
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "pool/page_owner.h"
#include "pool/stack_depot.h"

/*
 * What the kernel finds in current. Anybody can change comm at any time and reading it costs a
 * system call, so it is read again only when the last reading is older than this.
 */
#define COMM_FRESH_NSEC 1000

static __thread __attribute__((tls_model("initial-exec"))) struct {
	s32 pid, tgid;
	u64 comm_nsec;
	char comm[TASK_COMM_LEN];
} current_task;

void page_owner_forked(void)
{
	current_task.pid = 0;
	current_task.comm_nsec = 0;
}

static inline void read_task(u64 now)
{
	if (unlikely(current_task.pid == 0)) {
		current_task.pid = (s32)syscall(SYS_gettid);
		current_task.tgid = (s32)getpid();
	}
	if (now - current_task.comm_nsec > COMM_FRESH_NSEC) {
		prctl(PR_GET_NAME, current_task.comm);
		current_task.comm_nsec = now;
	}
}

static inline void set_state(struct page_owner *owner, u8 state)
{
	atomic_store_explicit((_Atomic u8 *)&owner->state, state, memory_order_release);
}

/*
 * Fill the record of one page. Its state is not ALLOCATED until the end, so nobody reads it
 * meanwhile.
 */
static inline void write_owner(struct page_owner *owner, const struct page_owner *new, u8 flags)
{
	u8 state = owner->state & PAGE_EXT_OWNER_FREED;

	atomic_store_explicit((_Atomic u64 *)&owner->ts_nsec, new->ts_nsec, memory_order_release);
	atomic_thread_fence(memory_order_release);
	owner->gfp_mask = new->gfp_mask;
	owner->pid = new->pid;
	owner->tgid = new->tgid;
	owner->handle = new->handle;
	owner->order = new->order;
	owner->last_migrate_reason = -1;
	owner->pageblock_migratetype = new->pageblock_migratetype;
	memcpy(owner->comm, new->comm, TASK_COMM_LEN);
	set_state(owner, state | flags);
}

/* The record for an allocation by this thread. */
static inline struct page_owner new_owner(const struct pool *pool, u32 pfn, unsigned int order,
					  u32 gfp_mask, u32 handle)
{
	struct page_owner new = {.ts_nsec = ktime_get_ns(),
				 .gfp_mask = gfp_mask,
				 .handle = handle,
				 .order = (u8)order};

	read_task(new.ts_nsec);
	new.pid = current_task.pid;
	new.tgid = current_task.tgid;
	new.pageblock_migratetype = (u8)get_pageblock_migratetype(pool, pfn);
	memcpy(new.comm, current_task.comm, TASK_COMM_LEN);
	return new;
}

/* __set_page_owner(): every page of the block gets the same record. */
void __set_page_owner(struct pool *pool, u32 pfn, unsigned int order, u32 gfp_mask, u32 handle)
{
	const struct page_owner new = new_owner(pool, pfn, order, gfp_mask, handle);

	for (u32 nr = 0; nr < 1U << order; nr++)
		write_owner(&pool->page_ext[pfn + nr], &new, PAGE_EXT_OWNER_ALLOCATED);
	depot_add_pages(pool, handle, 1 << order);
}

/* __reset_page_owner(): the fields of the allocation stay, beside those of the free. */
void __reset_page_owner(struct pool *pool, u32 pfn, unsigned int order, u32 handle)
{
	const struct page_owner *head = &pool->page_ext[pfn];
	u64 now = ktime_get_ns();

	read_task(now);
	if (is_counted(head))
		depot_add_pages(pool, head->handle, -(1 << order));
	for (u32 nr = 0; nr < 1U << order; nr++) {
		struct page_owner *owner = &pool->page_ext[pfn + nr];

		set_state(owner, PAGE_EXT_OWNER_FREED);
		owner->free_ts_nsec = now;
		owner->free_handle = handle;
		owner->free_pid = current_task.pid;
		owner->free_tgid = current_task.tgid;
	}
}

void clear_page_owner(struct pool *pool, u32 pfn, unsigned int order)
{
	if (!(atomic_load(&pool->header->gate) & GATE_PAGE_OWNER))
		return;
	for (u32 nr = 0; nr < 1U << order; nr++) {
		struct page_owner *owner = &pool->page_ext[pfn + nr];

		if (is_counted(owner))
			depot_add_pages(pool, owner->handle, -1);
		if (owner->state & PAGE_EXT_OWNER_ALLOCATED)
			set_state(owner, PAGE_EXT_OWNER_FREED);
	}
}

/* __split_page_owner() */
void __split_page_owner(struct pool *pool, u32 pfn, unsigned int old_order, unsigned int new_order)
{
	/* From the end, where unsplit_page_owner() looks for a half-done split. */
	for (u32 nr = 1U << old_order; nr--;)
		atomic_store_explicit((_Atomic u8 *)&pool->page_ext[pfn + nr].order, (u8)new_order,
				      memory_order_relaxed);
}

void unsplit_page_owner(struct pool *pool, u32 pfn, unsigned int order, bool split)
{
	if (!(atomic_load(&pool->header->gate) & GATE_PAGE_OWNER) ||
	    pool->page_ext[pfn].state & PAGE_EXT_OWNER_EARLY)
		return;
	/*
	 * Records are split before any word. Early ones are left out above: their order is always
	 * 0.
	 */
	if (split || pool->page_ext[pfn + (1U << order) - 1].order != order)
		__split_page_owner(pool, pfn, order, order);
}

struct page_owner early_page_owner(const struct pool *pool)
{
	return new_owner(pool, 0, 0, 0, pool->header->early_handle);
}

void set_early_page_owner(struct pool *pool, u32 pfn, const struct page_owner *early)
{
	struct page_owner *owner = &pool->page_ext[pfn];

	write_owner(owner, early, PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY);
	owner->pageblock_migratetype = (u8)get_pageblock_migratetype(pool, pfn);
}
#endif
