/* SPDX-License-Identifier: MIT */
/*
 * The stack depot: each call stack is stored once, for all clients of a pool. Mirrors
 * lib/stackdepot.c.
 */
#ifndef PAGEOWNERFS_STACK_DEPOT_H
#define PAGEOWNERFS_STACK_DEPOT_H

#include "pool/layout.h"

enum depot_kind { DEPOT_STRING = 1, DEPOT_FRAME, DEPOT_STACK };

struct depot_frame {
	u32 name, module, filename; /* handles of strings */
	u32 offset, size, lineno;
};

struct stack_record {
	u32 handle, listed; /* listed: ascending in the order of the stacks' first allocations */
	long long nr_base_pages;
};

/* Commit memory for the hash table and the first objects. */
int depot_init(struct pool *pool);
/* Undo depot_init(), while nobody has a handle yet. */
void depot_drop(struct pool *pool);
/*
 * The handle of these bytes, which are added if they are new. -EBUSY: the lock of the depot has
 * been held for nsec; -ENOSPC: the depot is full or corrupt.
 */
int depot_intern(struct pool *pool, enum depot_kind kind, const void *data, u32 bytes, u64 nsec,
		 u32 *handle);
/* The bytes of a handle; NULL if it is not one of this kind. They never move. */
const void *depot_fetch(const struct pool *pool, u32 handle, enum depot_kind kind, u32 *bytes);

/*
 * inc_stack_record_count() and dec_stack_record_count(). A client counts pages of a few stacks
 * itself; their sums go to the depot when another stack needs the slot.
 */
void depot_add_pages(struct pool *pool, u32 handle, int nr_base_pages);
void depot_set_pages(const struct pool *pool, u32 handle, long long nr_base_pages);
/* Move a client's own counts to the depot. The client is gone or stopped. */
#if CONFIG_PAGE_OWNER
void depot_flush_pages(struct pool *pool, unsigned int slot);
#else
static inline void depot_flush_pages(struct pool *pool, unsigned int slot)
{
	(void)pool;
	(void)slot;
}
#endif

/*
 * The first stack at or after a handle that has ever allocated; 0: none. Objects are in the order
 * of their insertion.
 */
u32 depot_next_stack(const struct pool *pool, u32 handle, struct stack_record *stack);
/* The handle of the next object. */
u32 depot_after(const struct pool *pool, u32 handle);

#endif
