/* SPDX-License-Identifier: MIT */
/*
 * Records one after the other, of allocated blocks alone: a snapshot, a dump, the end of a trace.
 *
 * 64 bytes each, whatever the PFNs are: where a table by PFN has the last free, such a record has
 * its PFN and the number of what it shares with others. Records are only ever added.
 */
#ifndef PAGEOWNERFS_RECORD_LIST_H
#define PAGEOWNERFS_RECORD_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/page_owner.h"
#include "base/string_table.h"

/*
 * What many records have in common. Of flags that were printed, "0x40(head|node=0|lastcpupid=7)",
 * the names and the fields are kept as texts of their own: a kernel has few of the first, and may
 * have tens of thousands of the others.
 */
struct record_info {
	u64 flags, memcg;		      /* as struct page_info */
	const char *flag_names, *flag_fields; /* of flag_texts; NULL: they were not printed */
	u16 flag_names_size, flag_fields_size;
	u16 nid;
	u8 zone;
	u8 page_mt; /* migratetype of the mask; its bits differ in old kernels */
	u8 fields;  /* TEXT_*: what the text has; 0: what the reader wants */
	bool reserved;
	u8 padding[6];
};

struct last_free {
	u32 handle;
	s32 pid, tgid;
};

/* A text that the record's fields would not give back. */
struct verbatim {
	u64 at;
	size_t size;
	char text[];
};

struct record_list {
	struct page_owner *records;
	struct last_free *last_frees; /* of each record; NULL: of none */
	u64 nr, room;
	struct record_info *infos;
	struct hash_table info_numbers;
	u32 nr_infos, infos_room;
	struct strings flag_texts;
	struct verbatim **verbatims; /* ascending */
	u32 nr_verbatims, verbatims_room;
	u64 verbatim_bytes;
	u64 end_pfn;	/* behind the last page */
	bool ascending; /* by PFN */
};

static inline u64 record_pfn(const struct page_owner *owner)
{
	return (u64)owner->pfn_high << 32 | owner->pfn_low;
}

void record_list_init(struct record_list *list);
void record_list_free(struct record_list *list);
/* Memory of the records, without that of texts which they share. */
u64 record_list_bytes(const struct record_list *list);
/* Give back what is not used. */
void record_list_trim(struct record_list *list);
/* Number of an info, added if need be; NO_NUMBER: no memory. */
u32 record_list_info(struct record_list *list, const struct record_info *info);
/* Add a record; last_free: NULL if not known. False: no memory. */
bool record_list_add(struct record_list *list, const struct page_owner *owner, u64 pfn, u32 info,
		     const struct last_free *last_free);
/* Add one whose text is kept. False: no memory. */
bool record_list_add_text(struct record_list *list, const struct page_owner *owner, u64 pfn,
			  u32 info, const char *text, size_t size);
const struct verbatim *record_list_text(const struct record_list *list, u64 at);
/* The first record at or after a PFN; nr: none. Without order among them, that number. */
u64 record_list_at(const struct record_list *list, u64 pfn);
/* The record of the block that a page is in; nr: none. */
u64 record_list_find(const struct record_list *list, u64 pfn);

#endif
