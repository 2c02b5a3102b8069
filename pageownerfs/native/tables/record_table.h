/* SPDX-License-Identifier: MIT */
/* A list of records as a table: of what was recorded once, and does not change. */
#ifndef PAGEOWNERFS_RECORD_TABLE_H
#define PAGEOWNERFS_RECORD_TABLE_H

#include "tables/record_list.h"
#include "tables/table.h"

struct record_table {
	struct table table;
	struct record_list list;
	_Atomic u32 gate; /* 0: records are being added, and who looks meanwhile sees none */
};

void record_table_init(struct record_table *self);
/* After records were added to the list. */
void record_table_update(struct record_table *self);
#endif
