// SPDX-License-Identifier: MIT
/*
 * snapshot.c - a copy of the records of allocated blocks.
 *
 * Each record is copied whole. That none changes hands between two of them is for the caller to see
 * to.
 */
#include <string.h>

#include "tables/page_ext.h"
#include "text/record_text.h"
#include "tables/snapshot.h"

#define ROUND_UP(value, step) (((value) + (step) - 1) / (step) * (step))

u64 record_list_bytes(const struct record_list *list)
{
	u64 bytes = ROUND_UP(list->nr * sizeof(struct page_owner), 4096) +
		    (list->last_frees ? ROUND_UP(list->nr * sizeof(struct last_free), 4096) : 0) +
		    list->nr_infos * sizeof(struct record_info);

	for (size_t i = 0; i < list->nr_verbatims; i++)
		bytes += sizeof(struct verbatim) + list->verbatims[i]->size;
	return bytes;
}

static bool add(struct record_list *list, const struct record *record, u32 *number,
		struct record_info *last)
{
	const struct page_owner *owner = &record->owner;
	const struct record_info info = {.flags = record->flags_word,
					 .memcg = record->memcg_number,
					 .page_mt = record->page_mt_number,
					 .nid = record->nid};
	const struct last_free freed = {owner->free_handle, owner->free_pid, owner->free_tgid};
	struct page_owner copy = *owner;

	/* Neighbours have it in common, mostly. */
	if (*number == UINT32_MAX || memcmp(&info, last, sizeof(info))) {
		*number = record_list_info(list, &info);
		*last = info;
	}
	copy.pageblock_migratetype = record->block_mt_number;
	copy.state &= (u8)~PAGE_EXT_OWNER_SUSPECT;
	return *number != UINT32_MAX &&
	       record_list_add(list, &copy, record->pfn, *number,
			       owner->state & PAGE_EXT_OWNER_FREED || list->last_frees ? &freed
										       : NULL);
}

enum snapshot_result snapshot_table(const struct po_table *table, struct record_list *list,
				    u64 max_bytes)
{
	enum snapshot_result result = SNAPSHOT_DONE;
	struct record record = {0};
	struct record_info last = {0};
	struct po_reader reader;
	u32 number = UINT32_MAX;
	int found = 0;

	record_list_init(list);
	reader_init(&reader, table);
	while (result == SNAPSHOT_DONE && !table_is_empty(table) &&
	       (found = next_record_info(&reader, &record, PAGE_SCAN_BATCH)) > 0) {
		if (!add(list, &record, &number, &last))
			result = SNAPSHOT_NOMEM;
		else if (list->nr % 1024 == 0 && record_list_bytes(list) > max_bytes)
			result = SNAPSHOT_TOO_BIG;
		reader.pos_pfn = next_pfn(table, &record);
		drop_behind(table, &reader.dropped_pfn, reader.pos_pfn);
	}
	if (found < 0)
		result = SNAPSHOT_NOMEM;
	if (result == SNAPSHOT_DONE && record_list_bytes(list) > max_bytes)
		result = SNAPSHOT_TOO_BIG;
	reader_free(&reader);
	record_list_trim(list);
	if (result != SNAPSHOT_DONE)
		record_list_free(list);
	return result;
}
