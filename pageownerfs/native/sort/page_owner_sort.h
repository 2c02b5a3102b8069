/* SPDX-License-Identifier: MIT */
/*
 * Groups the records of a page_owner text as tools/mm/page_owner_sort.c does.
 *
 * A group keeps the fields of its first record and no text. Its header line is rendered again from
 * the fields, byte for byte; masks, comms and stacks are stored once each. So memory grows with the
 * number of groups (64 bytes each) and of different stacks, not with the number of records.
 */
#ifndef PAGEOWNERFS_PAGE_OWNER_SORT_H
#define PAGEOWNERFS_PAGE_OWNER_SORT_H

#include "text/page_owner_text.h"
#include "text/text_walk.h"

/*
 * The fields of groups. As bits 1 << FIELD they define the groups, as numbers they are sort keys.
 */
enum sort_field {
	FIELD_TXT, /* the whole text except the PFN line and, without FIELD_TS, ts */
	FIELD_STACKTRACE,
	FIELD_PID,
	FIELD_TGID,
	FIELD_COMM,
	FIELD_FREE, /* whether the page was freed before */
	FIELD_ALLOCATOR,
	FIELD_MODULE,
	FIELD_TS,
	FIELD_FREE_TS,
	FIELD_TIMES,
	FIELD_PAGES,
	NR_FIELDS,
};

#define BIT(field) (1u << (field))

struct sort_group {
	u64 ts_nsec, free_ts_nsec;
	u64 times, pages;
	u32 stack, mask, comm; /* numbers of strings */
	s32 pid, tgid;
	u8 order, fields, allocator, unused[9];
};

_Static_assert(sizeof(struct sort_group) == 64, "what a group costs");

/* What is known of a stack. */
struct sort_stack {
	u32 module; /* number of a string, NO_STRING = none */
	u32 next;   /* the stack that followed it last time */
	u8 allocator;
};

/* Which records count. An array that is NULL matches all. */
struct sort_filter {
	const s32 *pids, *tgids;
	const struct string *comms, *modules;
	u32 nr_pids, nr_tgids, nr_comms, nr_modules;
	bool unreleased; /* leave out records freed after they were allocated */
};

struct sorter {
	u32 key; /* bits 1 << FIELD */
	struct sort_filter filter;
	struct strings masks, comms, stacks, modules;
	struct sort_stack *stack_infos;
	struct sort_group *groups;
	struct hash_table group_numbers;
	u32 nr_groups, groups_room, stack_infos_room;
	u32 last_stack, last_mask, last_comm;
	struct text_walk walk;
	u8 fields;	/* TEXT_HAS_* bits that at least one record has */
	u64 nr_records; /* that passed the filter */
};

/* Was the page freed, be it before or after it was allocated? */
static inline bool is_released(const struct sort_group *group)
{
	return group->free_ts_nsec != 0;
}

/* The number of a module name, NO_STRING = none. */
static inline u32 module_of(const struct sorter *sorter, const struct sort_group *group)
{
	return sorter->stack_infos[group->stack].module;
}

/*
 * Read text. Returns the number of bytes used, or -1: no memory. The rest must be passed again with
 * more text after it, unless final.
 */
ptrdiff_t sorter_feed(struct sorter *sorter, const char *text, size_t size, bool final);
/*
 * Add the groups of another sorter, whose text follows this one's. False: no memory. from is
 * emptied.
 */
bool sorter_merge(struct sorter *sorter, struct sorter *from);
void sorter_free(struct sorter *sorter);

#endif
