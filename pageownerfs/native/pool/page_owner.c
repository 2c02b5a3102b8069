// SPDX-License-Identifier: MIT
/*
 * page_owner.c - who allocated each page: setting, freeing, splitting, finding the early ones.
 *
 * Mirrors mm/page_owner.c (6.12). The page is in the caller's hands (PAGE_PCP) when its records
 * change.
 */
#define _GNU_SOURCE
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pool/pool.h"

/*
 * What the kernel has in current. comm can be changed by anybody at any time and costs a system
 * call: it is read again once the last reading is older than this.
 */
#define COMM_FRESH_NSEC 1000

static __thread __attribute__((tls_model("initial-exec"))) struct {
	s32 pid, tgid;
	u64 comm_nsec;
	char comm[TASK_COMM_LEN];
} current_task;

/* In the child of fork(): the thread has another id. */
void task_forked(void)
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
 * Fill the record of one page. It does not say ALLOCATED before, so that nobody reads it meanwhile.
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

/* Does the page count for its stack? Early ones never did. */
static inline bool is_counted(const struct page_owner *owner)
{
	return (owner->state & (PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY)) ==
	       PAGE_EXT_OWNER_ALLOCATED;
}

/* __reset_page_owner(): the data of the allocation stay, beside those of the free. */
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

/*
 * A block that never reached its caller, or whose freer died: no longer allocated, nothing else
 * known.
 */
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

/*
 * Count all stacks anew, after a client has died between a page and its count. -EBUSY: it can't be
 * done now.
 */
int recount_stacks(struct pool *pool)
{
	struct stack_record stack;
	int error = pool_freeze(pool);

	if (error)
		return error;
	atomic_store(&pool->header->stacks_suspect, 0);
	for (u32 slot = 0; slot < pool_nr_clients(pool); slot++)
		depot_flush_pages(pool, slot);
	for (u32 handle = 0; (handle = depot_next_stack(pool, handle, &stack));
	     handle = depot_after(pool, handle))
		depot_set_pages(pool, handle, 0);
	for (u32 pfn = 0; pfn < pool->nr_pages; pfn++)
		if (is_counted(&pool->page_ext[pfn]))
			depot_add_pages(pool, pool->page_ext[pfn].handle, 1);
	pool_thaw(pool);
	return 0;
}

/* __split_page_owner() */
void __split_page_owner(struct pool *pool, u32 pfn, unsigned int old_order, unsigned int new_order)
{
	/* From the end: a half-done split shows at the end, see undo_split(). */
	for (u32 nr = 1U << old_order; nr--;)
		atomic_store_explicit((_Atomic u8 *)&pool->page_ext[pfn + nr].order, (u8)new_order,
				      memory_order_relaxed);
}

/* Memory for page_ext and the start of the depot. On failure nothing stays. */
int init_page_owner_memory(struct pool *pool)
{
	u64 offset = (u64)pool->page_ext_pfn << PAGE_SHIFT;
	u64 bytes = (u64)pool->nr_page_ext_pages << PAGE_SHIFT;
	int error = pool_commit(pool, offset, bytes);

	error = error ? error : depot_init(pool);
	if (error)
		pool_decommit(pool, offset, bytes);
	return error;
}

/* Undo it: tracking could not be switched on. */
void drop_page_owner_memory(struct pool *pool)
{
	depot_drop(pool);
	pool_decommit(pool, (u64)pool->page_ext_pfn << PAGE_SHIFT,
		      (u64)pool->nr_page_ext_pages << PAGE_SHIFT);
}

/* page_ext's own pages: part of the zones from now on, and the first that are found early. */
static void online_page_ext(struct pool *pool)
{
	u32 end = pool->page_ext_pfn + pool->nr_page_ext_pages;

	for (u32 pfn = pool->page_ext_pfn; pfn < end; pfn++) {
		struct page *page = pfn_to_page(pool, pfn);

		page->flags &= ~(1ULL << PG_reserved);
		page->gfp_mask = 0;
		pool->header->zones[page_zone(pool, pfn)].managed_pages++;
		set_page_word(pool, pfn, PAGE_WORD(PAGE_ALLOCATED, 0, 0, 1));
	}
}

/* init_pages_in_zone() */
static u64 init_pages_in_zone(struct pool *pool, unsigned int zone, const struct page_owner *early)
{
	u64 nr_early = 0;
	u32 pfn = pool->zone_span[zone].start_pfn;

	while (pfn < pool->zone_span[zone].end_pfn) {
		u64 word = page_word(pool, pfn);
		u32 nr = word_state(word) == PAGE_ALLOCATED || word_state(word) == PAGE_BUDDY
				 ? 1U << (word_order(word) <= MAX_PAGE_ORDER ? word_order(word) : 0)
				 : 1;

		for (u32 i = 0;
		     i < nr && word_state(word) == PAGE_ALLOCATED && pfn + i < pool->nr_pages;
		     i++) {
			struct page_owner *owner = &pool->page_ext[pfn + i];

			if (owner->state & PAGE_EXT_OWNER_ALLOCATED)
				continue;
			write_owner(owner, early, PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY);
			owner->pageblock_migratetype = (u8)get_pageblock_migratetype(pool, pfn + i);
			nr_early++;
		}
		pfn += nr;
	}
	return nr_early;
}

/*
 * Switch tracking on. The clients stand still meanwhile: a page is either found here, or allocated
 * by a client that sees the gate. Its memory and the two handles of the header are there already.
 */
int init_page_owner(struct pool *pool, u64 nr_early[MAX_NR_ZONES])
{
	int error = pool_freeze(pool);

	if (error)
		return error;
	if (!(atomic_load(&pool->header->gate) & GATE_PAGE_OWNER)) {
		struct page_owner early = new_owner(pool, 0, 0, 0, pool->header->early_handle);

		online_page_ext(pool);
		for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++) {
			nr_early[zone] = init_pages_in_zone(pool, zone, &early);
			stat_add(pool, early_pages, nr_early[zone]);
		}
		atomic_fetch_or(&pool->header->gate, GATE_PAGE_OWNER);
	}
	pool_thaw(pool);
	return 0;
}
