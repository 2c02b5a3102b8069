/* SPDX-License-Identifier: MIT */
/*
 * Loading page_owner text into a record_list, from which the renderer reproduces the text exactly.
 */
#ifndef PAGEOWNERFS_RECORD_LOAD_H
#define PAGEOWNERFS_RECORD_LOAD_H

#include "tables/record_list.h"
#include "text/flags_text.h"
#include "text/text_cache.h"
#include "text/text_walk.h"

#define LOAD_MIGRATETYPES 64 /* how many names a dump may have */

/* The meaning of the end of a PFN line, from the parser's text_types. */
struct load_types {
	u32 number;			       /* text_types.number */
	struct string flag_names, flag_fields; /* in record_list.flag_texts; NULL: none */
	u16 nid;
	u8 page_mt, block_mt, zone;
	bool reserved, verbatim;
	u32 page_mt_size;
	char page_mt_text[32];
};

/* The meaning of the lines after a PFN line: a stack and other lines. */
struct load_tail {
	u32 handle, note, next; /* next: the tail of the record that followed last time */
	s8 migrate_reason;
	bool early;
};

/*
 * The words needed to understand a record. The caller keeps ownership of the NUL-terminated ones.
 */
struct load_words {
	struct strings migratetypes, migrate_reasons; /* by number; a dump may add migratetypes */
	const char *reserved;			      /* the name of a flag */
	const char *node, *zone;		      /* names of flag fields, as in "node=0" */
};

struct record_load {
	struct record_list *list;
	struct load_words words;
	struct strings stacks, notes; /* numbered by handle - 1 and memcg - 1 */
	struct strings tails;	      /* both together, as they were read; by number: */
	struct load_tail *tail_infos;
	u32 tail_infos_room, last_tail;
	struct text_cache *masks; /* TEXT_GFP */
	unsigned int pageblock_order;
	bool pageblock_order_known;
	bool early_unknown;	 /* see struct table */
	u64 last_pfn_of_block_0; /* the highest one */
	struct text_walk walk;
	struct load_types types;
	struct record_info last_info;
	u32 last_info_number;
};

/* Takes ownership of the tables in words. False: no memory. */
bool record_load_init(struct record_load *load, struct record_list *list,
		      const struct load_words *words);
void record_load_free(struct record_load *load);
/*
 * Load the records of a text. Returns the number of bytes used, or -1: no memory; walk.nr_bytes
 * then has what was used. Unless final, the rest must be passed again with more text after it.
 */
ptrdiff_t record_load_feed(struct record_load *load, const char *text, size_t size, bool final);
/*
 * The handle of a stack and the number of a note (lines after a stack), which are added if they are
 * new; 0: no memory.
 */
u32 record_load_stack(struct record_load *load, const char *text, size_t size);
u32 record_load_note(struct record_load *load, const char *text, size_t size);
/* What was printed for a value of any kind except TEXT_FLAGS. False: nothing. */
bool record_load_text(const struct record_load *load, enum text_kind kind, u64 value,
		      struct string *text);
/* The same for a flags word. Searches all infos. */
bool record_load_flags(const struct record_load *load, u64 word, struct flags_text *flags);

#endif
