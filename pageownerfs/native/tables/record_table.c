// SPDX-License-Identifier: MIT
/*
 * record_table.c - a list of records as a table.
 */
#include "tables/mixed_blocks.h"
#include "tables/record_table.h"

#define PREFETCH_OWNERS 32
#define PREFETCH_INFOS 6

static inline const struct record_list *list_of(const struct table *table)
{
	return &((const struct record_table *)table)->list;
}

static __always_inline u64 next(const struct table *table, u64 at, u64 end)
{
	const struct page_owner *records = list_of(table)->records;

	while (at < end && !(records[at].state & PAGE_EXT_OWNER_ALLOCATED))
		at++;
	return at;
}

static __always_inline bool copy(const struct table *table, u64 at, struct record *record)
{
	const struct record_list *list = list_of(table);
	const struct page_owner *kept = &list->records[at];
	const struct last_free none = {0}, *last = list->last_frees ? &list->last_frees[at] : &none;

	__builtin_prefetch(&kept[PREFETCH_OWNERS]);
	record->at = at;
	record->pfn = record_pfn(kept);
	record->owner = *kept;
	record->owner.free_handle = last->handle;
	record->owner.free_pid = last->pid;
	record->owner.free_tgid = last->tgid;
	return kept->state & PAGE_EXT_OWNER_ALLOCATED;
}

static u32 heads(const struct table *table, u64 *at, u64 end, struct head *heads, u32 nr)
{
	return next_heads(table, next, copy, at, end, heads, nr);
}

/*
 * Prefetch the infos of the next records and the texts they refer to. If every record has its own,
 * readers would wait for memory.
 */
static inline void prefetch(const struct record_list *list, u64 at)
{
	const struct page_owner *kept = &list->records[at];
	const struct record_info *info;

	if (unlikely(list->nr - at <= 2 * PREFETCH_INFOS))
		return;
	info = &list->infos[kept[2 * PREFETCH_INFOS].info];
	__builtin_prefetch(info);
	__builtin_prefetch(info + 1);
	info = &list->infos[kept[PREFETCH_INFOS].info];
	__builtin_prefetch(info->flag_fields);
	__builtin_prefetch(info->flag_fields + info->flag_fields_size);
}

static bool info(const struct table *table, struct record *record, struct lookahead **ahead, u32 nr)
{
	const struct record_list *list = list_of(table);
	const struct page_owner *kept = &list->records[record->at];
	const struct record_info *info = &list->infos[kept->info];

	(void)ahead;
	(void)nr;
	prefetch(list, record->at);
	record->flags = info->flags;
	record->memcg = info->memcg;
	record->nid = info->nid;
	record->page_mt = info->page_mt;
	record->block_mt = kept->pageblock_migratetype;
	record->fields = info->fields;
	record->printed = info->flag_names ? info : NULL;
	record->verbatim = unlikely(kept->state & PAGE_EXT_OWNER_VERBATIM)
				   ? record_list_text(list, record->at)
				   : NULL;
	return true;
}

static u64 find(const struct table *table, u64 pfn)
{
	return record_list_find(list_of(table), pfn);
}

static u64 seek(const struct table *table, u64 pfn)
{
	return record_list_at(list_of(table), pfn);
}

static bool version(const struct table *table, u64 *version)
{
	*version = list_of(table)->nr;
	return true;
}

static const struct table_ops record_table_ops = {
	.next = next,
	.copy = copy,
	.info = info,
	.heads = heads,
	.find = find,
	.seek = seek,
	.version = version,
	.mixed_blocks = record_mixed_blocks,
};

void record_table_init(struct record_table *self)
{
	record_list_init(&self->list);
	atomic_init(&self->gate, 1);
	self->table = (struct table){.ops = &record_table_ops,
				     .pageblock_order = PAGEBLOCK_ORDER,
				     .gate = &self->gate,
				     .gate_bit = 1};
}

void record_table_update(struct record_table *self)
{
	self->table.end = self->list.nr;
	self->table.unordered = !self->list.ascending;
}
