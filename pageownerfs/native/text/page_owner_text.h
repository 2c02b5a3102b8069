/* SPDX-License-Identifier: MIT */
/*
 * Parser of page_owner's text, of every kernel that has printed one: the only one there is. A
 * record is parsed once, and all that it says is in struct text_record.
 *
 * A record is a header line, a PFN line, and lines of the stack and of what else is known, up to an
 * empty line. All that is variable is held against what a kernel can print, so that a record which
 * was cut, spliced or overwritten is told from a good one. Lines may end in CR LF.
 *
 * The comm is up to 15 bytes of any value but NUL. It ends where what follows is the rest of a
 * header line, to its newline: no comm is long enough to hold that much.
 */
#ifndef PAGEOWNERFS_PAGE_OWNER_TEXT_H
#define PAGEOWNERFS_PAGE_OWNER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/page_owner.h"

/* What begins a record, and stands nowhere else. */
#define RECORD_START "Page allocated via order "
#define RECORD_START_SIZE (sizeof(RECORD_START) - 1)

/* bytes of a mask with its names: all flags there are take half of that */
#define TEXT_MASK_MAX 1024

enum text_status {
	TEXT_RECORD,
	TEXT_MORE, /* the text ends inside of the record, and may go on */
	TEXT_DAMAGED,
	TEXT_NOMEM, /* of text_walk() */
};

/* text_record.fields: what a kernel of some age does not print */
#define TEXT_HAS_PID 1	   /* since 5.11 */
#define TEXT_HAS_TGID 2	   /* and comm; since 5.18 */
#define TEXT_HAS_TS 4	   /* since 5.11 */
#define TEXT_HAS_FREE_TS 8 /* 5.13 to 6.6 */
#define TEXT_HAS_PFN 16	   /* always; but a line may be missing */
#define TEXT_PFN_HEX 32	   /* since 6.7; decimal before */
#define TEXT_FIELDS_6_12 (TEXT_HAS_PID | TEXT_HAS_TGID | TEXT_HAS_TS | TEXT_HAS_PFN | TEXT_PFN_HEX)

/* Allocators, as the bits of ALLOCATOR_* in tools/mm/page_owner_sort.c are ordered */
#define ALLOCATOR_CMA 1
#define ALLOCATOR_SLAB 2
#define ALLOCATOR_VMALLOC 4
#define ALLOCATOR_OTHERS 8

/*
 * The end of a PFN line, "Movable Flags 0x40(head|zone=1)", which many records have in common.
 * Positions are from its beginning. Kernels up to 4.5 print a number and no names.
 */
struct text_types {
	u64 flags;
	u32 number; /* another one than that of the record before: the text is, too */
	u32 size;   /* of all of it; 0: it is an old one, and the next three say nothing */
	u32 block_mt_size;
	u32 flags_at, names_at; /* "0x40(..." and "head|zone=1)" */
	u8 old_block_mt;	/* as numbers */
	u8 old_page_mt;		/* "Fallback" tells no more than that it is another one */
	u8 allocator;		/* ALLOCATOR_CMA, ALLOCATOR_SLAB: what the names tell */
};

struct text_record {
	const char *start;    /* of the header line */
	const char *mask;     /* as printed: 0xcc0(GFP_KERNEL) */
	const char *comm;     /* empty if not there, and so is pfn_line */
	const char *pfn_line; /* without its newline */
	const char *page_mt;  /* the mask's type in it */
	const char *types;    /* its end; see text_types */
	/* the lines behind it, innermost frame first; those of other kinds too */
	const char *stack;
	const char *end;    /* behind the empty line */
	const char *damage; /* TEXT_DAMAGED: what is wrong */
	size_t stack_size;
	u64 ts_nsec, free_ts_nsec, pfn, block;
	s32 pid, tgid;
	u32 gfp_mask, mask_size, pfn_line_size, page_mt_size;
	u8 comm_size, order, fields;
	bool ragged; /* stack has CR LF, or no newline at its end: see text_copy_stack() */
	struct text_types parsed; /* types */
};

static inline bool text_is_start(const char *p, const char *end)
{
	return (size_t)(end - p) >= RECORD_START_SIZE &&
	       !memcmp(p, RECORD_START, RECORD_START_SIZE);
}

/*
 * What the last record had, for the next one: often it has the same. Only a short cut; begins as
 * zeros.
 */
struct text_hint {
	u32 mask_size, types_size; /* 0: it was too long to be kept */
	u32 gfp_mask;
	struct text_types parsed; /* types */
	char mask[128], types[256];
};

/*
 * The head of the next record, header and PFN line, at or after *p; *p is then its start. Empty
 * lines are skipped. TEXT_DAMAGED: something else stands there, or a record with a bad head. final:
 * nothing follows end.
 */
enum text_status text_parse_head(const char **p, const char *end, bool final,
				 struct text_hint *hint, struct text_record *record);
/*
 * Where to go on in damage: at the next record from p on, or behind the next empty line if that
 * comes first. *ended: there is one; otherwise all of it is damage but for what may begin a record.
 */
const char *text_skip_damage(const char *p, const char *end, bool final, bool *ended);

#endif
