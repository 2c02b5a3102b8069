/* SPDX-License-Identifier: MIT */
/*
 * A list of records of allocated blocks: a snapshot, a dump, the end of a trace.
 *
 * A record takes 64 bytes, however sparse the PFNs are. In place of the last free, which a table by
 * PFN has there, it has its PFN and the number of the info that it shares with other records.
 * Records are only ever added.
 */
#ifndef PAGEOWNERFS_RECORD_LIST_H
#define PAGEOWNERFS_RECORD_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/page_owner.h"
#include "base/string_table.h"

/*
 * What many records have in common. Printed flags such as "0x40(head|node=0|lastcpupid=7)" are
 * split: the names and the fields are separate strings, because a kernel has few of the former but
 * may have tens of thousands of the latter.
 */
struct record_info {
	u64 flags, memcg;		      /* as in struct page_info */
	const char *flag_names, *flag_fields; /* in flag_texts; NULL if not printed */
	u16 flag_names_size, flag_fields_size;
	u16 nid;
	u8 zone;
	u8 page_mt; /* migratetype of the mask, whose bits differ in old kernels */
	u8 fields;  /* TEXT_*: the fields of the text; 0: as the reader wants */
	bool reserved;
	u8 padding[6];
};

struct last_free {
	u32 handle;
	s32 pid, tgid;
};

/* A text that the fields of its record would not reproduce. */
struct verbatim {
	u64 at;
	size_t size;
	char text[];
};

struct record_list {
	struct page_owner *records;
	struct last_free *last_frees; /* one for each record; NULL if there are none */
	u64 nr, room;
	struct record_info *infos;
	struct hash_table info_numbers;
	u32 nr_infos, infos_room;
	struct strings flag_texts;
	struct verbatim **verbatims; /* ascending by place */
	u32 nr_verbatims, verbatims_room;
	u64 verbatim_bytes;
	u64 end_pfn;	/* after the last page */
	bool ascending; /* by PFN */
};

static inline u64 record_pfn(const struct page_owner *owner)
{
	return (u64)owner->pfn_high << 32 | owner->pfn_low;
}

void record_list_init(struct record_list *list);
void record_list_free(struct record_list *list);
/* The memory of the records, without the texts that they share. */
u64 record_list_bytes(const struct record_list *list);
/* Give unused memory back. */
void record_list_trim(struct record_list *list);
/* The number of an info, which is added if it is new; NO_NUMBER: no memory. */
u32 record_list_info(struct record_list *list, const struct record_info *info);
/* Add a record; last_free is NULL if not known. False: no memory. */
bool record_list_add(struct record_list *list, const struct page_owner *owner, u64 pfn, u32 info,
		     const struct last_free *last_free);
/* Add a record and keep its text. False: no memory. */
bool record_list_add_text(struct record_list *list, const struct page_owner *owner, u64 pfn,
			  u32 info, const char *text, size_t size);
const struct verbatim *record_list_text(const struct record_list *list, u64 at);
/*
 * The first record at or after a PFN, nr if there is none. In an unordered list, the record with
 * this number.
 */
u64 record_list_at(const struct record_list *list, u64 pfn);
/* The record of the block that contains a page, nr if there is none. */
u64 record_list_find(const struct record_list *list, u64 pfn);

#endif
