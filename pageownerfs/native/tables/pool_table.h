/* SPDX-License-Identifier: MIT */
/* The table of a pool: page_ext, with flags and types beside it in the pool's memory. */
#ifndef PAGEOWNERFS_POOL_TABLE_H
#define PAGEOWNERFS_POOL_TABLE_H

#include "pool/layout.h"
#include "tables/table.h"

struct pool_table {
	struct table table;
	const struct pool *pool;
};

/* The pool must stay mapped for as long as the table is used. */
void pool_table_init(struct pool_table *self, const struct pool *pool);

#endif
