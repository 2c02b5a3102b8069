/* SPDX-License-Identifier: MIT */
/* The table of a pool: page_ext, with flags and migratetypes from the rest of the pool's memory. */
#ifndef PAGEOWNERFS_POOL_TABLE_H
#define PAGEOWNERFS_POOL_TABLE_H

#include "pool/layout.h"
#include "tables/table.h"

struct pool_table {
	struct table table;
	const struct pool *pool;
};

/* The pool must stay mapped while the table is used. */
void pool_table_init(struct pool_table *self, const struct pool *pool);

#endif
