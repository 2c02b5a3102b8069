/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_SNAPSHOT_H
#define PAGEOWNERFS_SNAPSHOT_H

#include "tables/record_list.h"
#include "tables/table.h"

enum snapshot_result { SNAPSHOT_DONE, SNAPSHOT_NOMEM, SNAPSHOT_TOO_BIG };

/*
 * Copy the records of all allocated blocks, using at most max_bytes of memory. After a failure the
 * list is empty.
 */
enum snapshot_result snapshot_table(const struct table *table, struct record_list *list,
				    u64 max_bytes);

#endif
