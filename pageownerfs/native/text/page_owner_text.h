/* SPDX-License-Identifier: MIT */
/*
 * Parser of the page_owner text of every kernel version, and the only one. It parses each record
 * once, into struct text_record.
 *
 * A record is a header line, a PFN line, and the lines of the stack and other information, up to an
 * empty line. Everything variable is checked against what a kernel can print, so that truncated,
 * spliced and overwritten records are recognized. Lines may end with CR LF.
 *
 * The comm has up to 15 bytes of any value but NUL. It ends where the rest of a header line
 * follows, up to the newline: no comm is long enough to contain that.
 */
#ifndef PAGEOWNERFS_PAGE_OWNER_TEXT_H
#define PAGEOWNERFS_PAGE_OWNER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/page_owner.h"

/* The start of a record, which occurs nowhere else. */
#define RECORD_START "Page allocated via order "
#define RECORD_START_SIZE (sizeof(RECORD_START) - 1)

/* bytes of a mask with its names: all existing flags together take half of that */
#define TEXT_MASK_MAX 1024

enum text_status {
	TEXT_RECORD,
	TEXT_MORE, /* the text ends inside the record; more may follow */
	TEXT_DAMAGED,
	TEXT_NOMEM, /* only from text_walk() */
};

/* text_record.fields: which fields a record has; not all kernels print all of them */
#define TEXT_HAS_PID 1	   /* since 5.11 */
#define TEXT_HAS_TGID 2	   /* and comm; since 5.18 */
#define TEXT_HAS_TS 4	   /* since 5.11 */
#define TEXT_HAS_FREE_TS 8 /* 5.13 to 6.6 */
#define TEXT_HAS_PFN 16	   /* every kernel has the line, but it may be missing */
#define TEXT_PFN_HEX 32	   /* since 6.7; decimal before */
#define TEXT_FIELDS_6_12 (TEXT_HAS_PID | TEXT_HAS_TGID | TEXT_HAS_TS | TEXT_HAS_PFN | TEXT_PFN_HEX)

/* Allocators, with the bits in the order of ALLOCATOR_* in tools/mm/page_owner_sort.c. */
#define ALLOCATOR_CMA 1
#define ALLOCATOR_SLAB 2
#define ALLOCATOR_VMALLOC 4
#define ALLOCATOR_OTHERS 8

/*
 * The end of a PFN line, "Movable Flags 0x40(head|zone=1)", which many records share. Positions
 * count from its start. Kernels up to 4.5 print a number and no names.
 */
struct text_types {
	u64 flags;
	u32 number; /* changes whenever the text differs from that of the previous record */
	u32 size;   /* of the whole end; 0: an old line, for which the next three are not set */
	u32 block_mt_size;
	u32 flags_at, names_at; /* "0x40(..." and "head|zone=1)" */
	u8 old_block_mt;	/* as numbers */
	u8 old_page_mt;		/* "Fallback" says only that the types differ */
	u8 allocator;		/* ALLOCATOR_CMA, ALLOCATOR_SLAB: what the names imply */
};

struct text_record {
	const char *start;    /* of the header line */
	const char *mask;     /* as printed: 0xcc0(GFP_KERNEL) */
	const char *comm;     /* empty if there is none, like pfn_line */
	const char *pfn_line; /* without its newline */
	const char *page_mt;  /* the mask's migratetype in the PFN line */
	const char *types;    /* the end of the PFN line; see text_types */
	/* the lines after the PFN line, innermost frame first; includes the other lines */
	const char *stack;
	const char *end;    /* after the empty line */
	const char *damage; /* TEXT_DAMAGED: what is wrong */
	size_t stack_size;
	u64 ts_nsec, free_ts_nsec, pfn, block;
	s32 pid, tgid;
	u32 gfp_mask, mask_size, pfn_line_size, page_mt_size;
	u8 comm_size, order, fields;
	bool ragged; /* the stack has CR LF, or no newline at its end: see text_copy_stack() */
	struct text_types parsed; /* from types */
};

static inline bool text_is_start(const char *p, const char *end)
{
	return (size_t)(end - p) >= RECORD_START_SIZE &&
	       !memcmp(p, RECORD_START, RECORD_START_SIZE);
}

/*
 * What the last record contained, as a shortcut for the next one, which often has the same. Starts
 * zeroed.
 */
struct text_hint {
	u32 mask_size, types_size; /* 0: too long to be kept */
	u32 gfp_mask;
	struct text_types parsed; /* from types */
	char mask[128], types[256];
};

/*
 * Parse the head (header and PFN line) of the next record at or after *p; *p is then its start.
 * Skips empty lines. TEXT_DAMAGED: something else is there, or the head is malformed. final: no
 * text follows end.
 */
enum text_status text_parse_head(const char **p, const char *end, bool final,
				 struct text_hint *hint, struct text_record *record);
/*
 * Find where to resume after damage: at the next record from p on, or after the next empty line,
 * whichever comes first. *ended: such a place was found; otherwise the result is where the damage
 * may still turn into the start of a record.
 */
const char *text_skip_damage(const char *p, const char *end, bool final, bool *ended);

#endif
