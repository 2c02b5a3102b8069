/* SPDX-License-Identifier: MIT */
/* A list of records as a table: what was recorded once and does not change. */
#ifndef PAGEOWNERFS_RECORD_TABLE_H
#define PAGEOWNERFS_RECORD_TABLE_H

#include "tables/record_list.h"
#include "tables/table.h"

struct record_table {
	struct table table;
	struct record_list list;
	_Atomic u32 gate; /* 0 while records are being added: readers see none */
};

void record_table_init(struct record_table *self);
/* Call this after adding records to the list. */
void record_table_update(struct record_table *self);
#endif
