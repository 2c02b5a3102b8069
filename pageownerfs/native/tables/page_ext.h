/* SPDX-License-Identifier: MIT */
/* Finding the records of a table. */
#ifndef PAGEOWNERFS_PAGE_EXT_H
#define PAGEOWNERFS_PAGE_EXT_H

#include "base/mmzone.h"
#include "text/render.h"

#define PREFETCH_PFNS 32

static inline const struct page_owner *record_at(const struct po_table *table, u64 pfn)
{
	return &table->page_ext[pfn - table->start_pfn];
}

static inline u8 state_of(const struct page_owner *shared)
{
	return *(const volatile u8 *)&shared->state;
}

/* Only state counts in such a record; the rest may be what an allocation long ago has left. */
static inline bool is_early(const struct po_table *table, u8 state)
{
	return state & PAGE_EXT_OWNER_EARLY && table->early;
}

static inline unsigned int order_of(const struct po_table *table, const struct page_owner *shared)
{
	return is_early(table, state_of(shared)) ? table->early->order
						 : *(const volatile u8 *)&shared->order;
}

static inline bool is_tail(const struct po_table *table, u64 pfn, unsigned int order)
{
	return pfn & ((1ULL << (order & 63)) - 1) && !table->list;
}

/* Past a block: its tail pages have no record to print. */
static inline u64 pfn_after(const struct po_table *table, u64 pfn, unsigned int order)
{
	return pfn + (order <= MAX_PAGE_ORDER && !table->list ? 1ULL << order : 1);
}

#endif
