// SPDX-License-Identifier: MIT
/*
 * kernel_table.c - the records of the running kernel's pages.
 */
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gfp.h"
#include "tables/kernel_table.h"
#include "tables/mixed_blocks.h"
#include "tables/page_ext_table.h"

/* 512 KiB of page_ext: still cached when the reader gets there */
#define LOOK_AHEAD_PFNS 8192

void page_scanner_scan(struct page_scanner *scanner, struct lookahead *ahead)
{
	struct page_scan *scan = scanner->scan;
	union bpf_attr attr;

	if (scanner->prog_fd < 0)
		return;
	memset(&attr, 0, sizeof(attr));
	attr.test.prog_fd = (u32)scanner->prog_fd;
	pthread_mutex_lock(&scanner->lock);
	scan->nr = ahead->nr;
	memcpy(scan->pfn, ahead->pfn, ahead->nr * sizeof(scan->pfn[0]));
	if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr)) == 0)
		memcpy(ahead->info, scan->info, ahead->nr * sizeof(scan->info[0]));
	pthread_mutex_unlock(&scanner->lock);
}

static inline const struct kernel_table *kernel_of(const struct table *table)
{
	return (const struct kernel_table *)table;
}

static __always_inline u64 kernel_next(const struct table *table, u64 pfn, u64 end)
{
	const struct kernel_table *self = kernel_of(table);

	return page_ext_next(table, self->page_ext, &self->early, pfn, end);
}

static __always_inline bool kernel_copy(const struct table *table, u64 pfn, struct record *record)
{
	const struct kernel_table *self = kernel_of(table);

	return page_ext_copy(self->page_ext, &self->early, pfn, record);
}

static u32 kernel_heads(const struct table *table, u64 *at, u64 end, struct head *heads, u32 nr)
{
	return next_heads(table, kernel_next, kernel_copy, at, end, heads, nr);
}

/* Look up a page and the heads after it, up to nr; false: no memory. */
static bool look_ahead(const struct kernel_table *self, u64 pfn, struct lookahead **kept, u32 nr)
{
	const struct table *table = &self->table;
	u64 end = table->end - pfn < LOOK_AHEAD_PFNS ? table->end : pfn + LOOK_AHEAD_PFNS;
	struct lookahead *ahead = *kept;

	if (!ahead)
		ahead = *kept = malloc(sizeof(*ahead));
	if (!ahead)
		return false;
	ahead->asked_nsec = ktime_get_ns();
	ahead->nr = ahead->next = 0;
	do {
		const struct page_owner *shared = &self->page_ext[pfn];

		ahead->pfn[ahead->nr] = pfn;
		/* the fallback if the lookup fails */
		ahead->info[ahead->nr++] =
			(struct page_info){.pageblock_migratetype = shared->pageblock_migratetype};
		pfn = place_after(table, pfn,
				  is_early(&self->early, state_of(shared)) ? self->early.order
									   : order_of(shared));
		pfn = kernel_next(table, pfn, end);
	} while (pfn < end && ahead->nr < nr);
	page_scanner_scan((struct page_scanner *)&self->scanner, ahead);
	return true;
}

static const struct page_info *page_info(const struct kernel_table *self, u64 pfn,
					 struct lookahead **kept, u32 nr)
{
	struct lookahead *ahead = *kept;

	if (likely(ahead)) {
		while (ahead->next < ahead->nr && ahead->pfn[ahead->next] < pfn)
			ahead->next++;
		if (likely(ahead->next < ahead->nr && ahead->pfn[ahead->next] == pfn))
			return &ahead->info[ahead->next];
	}
	return look_ahead(self, pfn, kept, nr) ? (*kept)->info : NULL;
}

static bool kernel_info(const struct table *table, struct record *record, struct lookahead **ahead,
			u32 nr)
{
	const struct kernel_table *self = kernel_of(table);
	struct page_info info = {.pageblock_migratetype = record->owner.pageblock_migratetype};

	if (likely(self->scanner.prog_fd >= 0)) {
		const struct page_info *found = page_info(self, record->pfn, ahead, nr);

		if (!found)
			return false;
		info = *found;
	}
	record->flags = info.flags;
	record->memcg = info.memcg;
	record->nid = (u16)(info.flags >> self->nid_shift & ((1ULL << self->nid_bits) - 1));
	record->page_mt = (u8)gfp_migratetype(record->owner.gfp_mask);
	record->block_mt = info.pageblock_migratetype;
	record->fields = 0;
	record->printed = NULL;
	record->verbatim = NULL;
	return true;
}

/* The kernel's records change without notice. */
static bool version(const struct table *table, u64 *version)
{
	(void)table;
	(void)version;
	return false;
}

static const struct table_ops kernel_table_ops = {
	.next = kernel_next,
	.copy = kernel_copy,
	.info = kernel_info,
	.heads = kernel_heads,
	.find = page_ext_find,
	.seek = page_ext_seek,
	.version = version,
	.mixed_blocks = kernel_mixed_blocks,
	/* No unmap: a BPF map's pages would not be faulted in again. */
};

void kernel_table_init(struct kernel_table *self)
{
	self->table.ops = &kernel_table_ops;
	self->table.by_page = true;
	self->table.early_unknown = true;
	atomic_init(&self->gate, 1);
	self->table.gate = &self->gate;
	self->table.gate_bit = 1;
	pthread_mutex_init(&self->scanner.lock, NULL);
	self->scanner.prog_fd = -1;
}

void kernel_table_destroy(struct kernel_table *self)
{
	pthread_mutex_destroy(&self->scanner.lock);
}
