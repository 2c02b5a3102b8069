/* SPDX-License-Identifier: MIT */
/* The text of page_owner into a record_list, from which the renderer makes the very same text. */
#ifndef PAGEOWNERFS_RECORD_LOAD_H
#define PAGEOWNERFS_RECORD_LOAD_H

#include "tables/record_list.h"
#include "text/render.h"
#include "text/text_walk.h"

#define LOAD_MIGRATETYPES 64 /* names that a dump may have */
/* What follows "Block N " in a PFN line, and what it says. */
struct load_types {
	u64 flags;
	u16 nid;
	u8 page_mt, block_mt, zone;
	bool reserved, verbatim;
	size_t page_mt_size, text_size;
	char page_mt_text[32], text[256];
};

/* What the lines behind a PFN line say: a stack, and other lines. */
struct load_tail {
	u32 handle, note, next; /* next: that of the record behind, the last time */
	s8 migrate_reason;
	bool early;
};

struct record_load {
	struct record_list *list;
	struct strings stacks, notes; /* handle - 1, memcg - 1 are numbers of these */
	struct strings tails;	      /* both, as they were read; by number: */
	struct load_tail *tail_infos;
	u32 tail_infos_room, last_tail;
	const char *const *migrate_reasons; /* names by number, up to NULL */
	struct strings migratetypes;
	struct text_cache *names; /* TEXT_GFP, TEXT_FLAGS */
	unsigned int pageblock_order;
	bool pageblock_order_known;
	bool early_unknown;	 /* see po_table */
	u64 last_pfn_of_block_0; /* the highest */
	struct text_walk walk;
	struct load_types types;
	struct record_info last_info;
	u32 last_info_number;
};

/* migratetypes, migrate_reasons: names by number, up to NULL. */
bool record_load_init(struct record_load *load, struct record_list *list,
		      const char *const *migratetypes, const char *const *migrate_reasons);
void record_load_free(struct record_load *load);
/*
 * Take the records of a text; bytes used, -1: no memory. What is left must come again, unless
 * final.
 */
ptrdiff_t record_load_feed(struct record_load *load, const char *text, size_t size, bool final);
/* Handle of a stack, number of a note (lines behind a stack): added if need be; 0: no memory. */
u32 record_load_stack(struct record_load *load, const char *text, size_t size);
u32 record_load_note(struct record_load *load, const char *text, size_t size);

#endif
