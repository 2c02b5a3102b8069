/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_SNAPSHOT_H
#define PAGEOWNERFS_SNAPSHOT_H

#include "text/render.h"

enum snapshot_result { SNAPSHOT_DONE, SNAPSHOT_NOMEM, SNAPSHOT_TOO_BIG };

/*
 * Copy the records of all allocated blocks; max_bytes: of memory for them. The list is empty if it
 * fails.
 */
enum snapshot_result snapshot_table(const struct po_table *table, struct record_list *list,
				    u64 max_bytes);
u64 record_list_bytes(const struct record_list *list);

#endif
