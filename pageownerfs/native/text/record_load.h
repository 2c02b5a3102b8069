/* SPDX-License-Identifier: MIT */
/* The text of page_owner into a record_list, from which the renderer makes the very same text. */
#ifndef PAGEOWNERFS_RECORD_LOAD_H
#define PAGEOWNERFS_RECORD_LOAD_H

#include "tables/record_list.h"
#include "text/flags_text.h"
#include "text/text_cache.h"
#include "text/text_walk.h"

#define LOAD_MIGRATETYPES 64 /* names that a dump may have */

/* What the end of a PFN line says: the parser's text_types, understood. */
struct load_types {
	u32 number;			       /* text_types.number */
	struct string flag_names, flag_fields; /* of record_list.flag_texts; NULL: none */
	u16 nid;
	u8 page_mt, block_mt, zone;
	bool reserved, verbatim;
	u32 page_mt_size;
	char page_mt_text[32];
};

/* What the lines behind a PFN line say: a stack, and other lines. */
struct load_tail {
	u32 handle, note, next; /* next: that of the record behind, the last time */
	s8 migrate_reason;
	bool early;
};

/* The words that a record is understood by; NUL-terminated ones stay the caller's. */
struct load_words {
	struct strings migratetypes, migrate_reasons; /* by number; the dump adds migratetypes */
	const char *reserved;			      /* a flag */
	const char *node, *zone;		      /* fields of the flags, "node=" */
};

struct record_load {
	struct record_list *list;
	struct load_words words;
	struct strings stacks, notes; /* handle - 1, memcg - 1 are numbers of these */
	struct strings tails;	      /* both, as they were read; by number: */
	struct load_tail *tail_infos;
	u32 tail_infos_room, last_tail;
	struct text_cache *masks; /* TEXT_GFP */
	unsigned int pageblock_order;
	bool pageblock_order_known;
	bool early_unknown;	 /* see struct table */
	u64 last_pfn_of_block_0; /* the highest */
	struct text_walk walk;
	struct load_types types;
	struct record_info last_info;
	u32 last_info_number;
};

/* Takes the words over. False: no memory. */
bool record_load_init(struct record_load *load, struct record_list *list,
		      const struct load_words *words);
void record_load_free(struct record_load *load);
/*
 * Take the records of a text; bytes used, -1: no memory, and what was used before is in
 * walk.nr_bytes. What is left must come again, unless final.
 */
ptrdiff_t record_load_feed(struct record_load *load, const char *text, size_t size, bool final);
/* Handle of a stack, number of a note (lines behind a stack): added if need be; 0: no memory. */
u32 record_load_stack(struct record_load *load, const char *text, size_t size);
u32 record_load_note(struct record_load *load, const char *text, size_t size);
/* What was printed for a value; but for TEXT_FLAGS. False: nothing. */
bool record_load_text(const struct record_load *load, enum text_kind kind, u64 value,
		      struct string *text);
/* The same for a flags word; looks through all of them. */
bool record_load_flags(const struct record_load *load, u64 word, struct flags_text *flags);

#endif
