// SPDX-License-Identifier: MIT
/*
 * snapshot.c - a copy of the records of allocated blocks.
 *
 * Each record is copied whole. The caller ensures that pages don't change hands between two
 * records, where that matters.
 */
#include <string.h>

#include "tables/find.h"
#include "tables/snapshot.h"

static bool add(struct record_list *list, const struct record *record, u32 *number,
		struct record_info *last)
{
	const struct page_owner *owner = &record->owner;
	const struct record_info info = {.flags = record->flags,
					 .memcg = record->memcg,
					 .nid = record->nid,
					 .page_mt = record->page_mt};
	const struct last_free freed = {owner->free_handle, owner->free_pid, owner->free_tgid};
	struct page_owner copy = *owner;

	/* Neighbours usually share it. */
	if (*number == NO_NUMBER || memcmp(&info, last, sizeof(info))) {
		*number = record_list_info(list, &info);
		*last = info;
	}
	copy.pageblock_migratetype = record->block_mt;
	copy.state &= (u8)~PAGE_EXT_OWNER_SUSPECT;
	return *number != NO_NUMBER &&
	       record_list_add(list, &copy, record->pfn, *number,
			       owner->state & PAGE_EXT_OWNER_FREED || list->last_frees ? &freed
										       : NULL);
}

enum snapshot_result snapshot_table(const struct table *table, struct record_list *list,
				    u64 max_bytes)
{
	static const struct record_filter all;
	enum snapshot_result result = SNAPSHOT_DONE;
	struct record_info last = {0};
	struct record record = {0};
	struct cursor cursor;
	u32 number = NO_NUMBER;
	int found = 0;

	record_list_init(list);
	cursor_init(&cursor, table);
	while (result == SNAPSHOT_DONE && !table_is_empty(table) &&
	       (found = next_record(&cursor, &all, &record, PAGE_SCAN_BATCH)) > 0) {
		if (!add(list, &record, &number, &last))
			result = SNAPSHOT_NOMEM;
		else if (list->nr % 1024 == 0 && record_list_bytes(list) > max_bytes)
			result = SNAPSHOT_TOO_BIG;
		cursor_move(&cursor, &record);
	}
	if (found < 0)
		result = SNAPSHOT_NOMEM;
	if (result == SNAPSHOT_DONE && record_list_bytes(list) > max_bytes)
		result = SNAPSHOT_TOO_BIG;
	cursor_free(&cursor);
	record_list_trim(list);
	if (result != SNAPSHOT_DONE)
		record_list_free(list);
	return result;
}
