/* SPDX-License-Identifier: MIT */
/* Each call stack once, for all processes on a pool. Mirrors lib/stackdepot.c. */
#ifndef PAGEOWNERFS_STACK_DEPOT_H
#define PAGEOWNERFS_STACK_DEPOT_H

#include "pool/layout.h"

enum depot_kind { DEPOT_STRING = 1, DEPOT_FRAME, DEPOT_STACK };

struct depot_frame {
	u32 name, module, filename; /* handles of strings */
	u32 offset, size, lineno;
};

struct stack_record {
	u32 handle, listed; /* listed: ascending in the order in which stacks first allocated */
	long long nr_base_pages;
};

/* Memory for the hash table and the first objects. */
int depot_init(struct pool *pool);
/* Undo depot_init(): nobody has a handle yet. */
void depot_drop(struct pool *pool);
/*
 * The handle of these bytes, added if need be. -EBUSY: the depot's lock has been held for nsec;
 * -ENOSPC: the depot is full, or out of order.
 */
int depot_intern(struct pool *pool, enum depot_kind kind, const void *data, u32 bytes, u64 nsec,
		 u32 *handle);
/* The bytes of a handle, NULL if it is none of this kind. They stay where they are. */
const void *depot_fetch(const struct pool *pool, u32 handle, enum depot_kind kind, u32 *bytes);

/*
 * inc_stack_record_count(), dec_stack_record_count(). A client counts a few stacks by itself: the
 * depot gets the sum when another one needs the place.
 */
void depot_add_pages(struct pool *pool, u32 handle, int nr_base_pages);
void depot_set_pages(const struct pool *pool, u32 handle, long long nr_base_pages);
/* What a client has counted goes to the depot: it is gone, or stands still. */
#if CONFIG_PAGE_OWNER
void depot_flush_pages(struct pool *pool, unsigned int slot);
#else
static inline void depot_flush_pages(struct pool *pool, unsigned int slot)
{
	(void)pool;
	(void)slot;
}
#endif

/* The first stack from a handle on that has allocated, 0: none. Objects lie as they came. */
u32 depot_next_stack(const struct pool *pool, u32 handle, struct stack_record *stack);
/* The handle behind an object. */
u32 depot_after(const struct pool *pool, u32 handle);

#endif
