// SPDX-License-Identifier: MIT
/*
 * record_load.c - the text of page_owner into records.
 *
 * What a record's fields can't give back to the byte (a mask that the same number has not
 * elsewhere, CR LF, lines of kernels up to 4.5) is found by making the text again, and kept as it
 * is.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "text/known_stacks.h"
#include "text/record_load.h"
#include "text/record_text.h"

#define EARLY_STACK "register_early_stack"
/* does not know the masks of early pages */
#define OUR_KERNEL_SOURCE " [pageownerfs.sources.kernel."

bool record_load_init(struct record_load *load, struct record_list *list,
		      const char *const *migratetypes, const char *const *migrate_reasons)
{
	*load = (struct record_load){
		.list = list, .pageblock_order = 9, .last_info_number = UINT32_MAX};
	load->migrate_reasons = migrate_reasons;
	load->names = text_cache_new();
	for (; *migratetypes; migratetypes++)
		if (strings_add(&load->migratetypes, *migratetypes, strlen(*migratetypes)) ==
		    NO_STRING)
			return false;
	return load->names;
}

void record_load_free(struct record_load *load)
{
	strings_free(&load->stacks);
	strings_free(&load->notes);
	strings_free(&load->tails);
	strings_free(&load->migratetypes);
	text_cache_put(load->names);
	free(load->tail_infos);
}

u32 record_load_stack(struct record_load *load, const char *text, size_t size)
{
	u32 number = strings_add(&load->stacks, text, size);

	return number == NO_STRING ? 0 : number + 1;
}

u32 record_load_note(struct record_load *load, const char *text, size_t size)
{
	u32 number = strings_add(&load->notes, text, size);

	return number == NO_STRING ? 0 : number + 1;
}

/* ---- the lines behind the PFN line ---- */

/* Where the lines of the stack end, which begin with a blank. */
static const char *stack_end(const char *p, const char *end)
{
	const char *eol;

	for (; p < end && *p == ' ' && (eol = memchr(p, '\n', (size_t)(end - p))); p = eol + 1)
		;
	return p;
}

/*
 * "Page has been migrated, ...": its reason by number, and what is behind; -1 and the same if there
 * is none.
 */
static s8 parse_reason(const struct record_load *load, const char **p, const char *end)
{
	const char *name = *p + sizeof(migrated_line) - 1, *eol;

	if ((size_t)(end - *p) < sizeof(migrated_line) ||
	    memcmp(*p, migrated_line, sizeof(migrated_line) - 1))
		return -1;
	eol = memchr(name, '\n', (size_t)(end - name));
	for (s8 reason = 0; eol && load->migrate_reasons[reason]; reason++) {
		const char *known = load->migrate_reasons[reason];

		if (strlen(known) == (size_t)(eol - name) && !memcmp(known, name, strlen(known))) {
			*p = eol + 1;
			return reason;
		}
	}
	return -1;
}

static u32 add_tail(void *self, const char *text, size_t size)
{
	struct record_load *load = self;
	const char *end = text + size, *notes = stack_end(text, end);
	struct load_tail *tail;
	u32 nr = load->tails.nr, number = strings_add(&load->tails, text, size);

	if (number < nr || number == NO_STRING)
		return number;
	if (number >= load->tail_infos_room) {
		u32 room = number ? 2 * number : 64;

		tail = realloc(load->tail_infos, room * sizeof(*tail));
		if (!tail)
			return NO_STRING;
		load->tail_infos = tail;
		load->tail_infos_room = room;
	}
	tail = &load->tail_infos[number];
	*tail = (struct load_tail){.next = number};
	tail->handle = record_load_stack(load, text, (size_t)(notes - text));
	tail->early = memmem(text, (size_t)(notes - text), EARLY_STACK, sizeof(EARLY_STACK) - 1);
	if (tail->early &&
	    memmem(text, (size_t)(notes - text), OUR_KERNEL_SOURCE, sizeof(OUR_KERNEL_SOURCE) - 1))
		load->early_unknown = true;
	tail->migrate_reason = parse_reason(load, &notes, end);
	if (notes < end)
		tail->note = record_load_note(load, notes, (size_t)(end - notes));
	return tail->handle && (notes == end || tail->note) ? number : NO_STRING;
}

static enum text_status find_tail(void *self, const char *end, bool final,
				  struct text_record *record, u32 *number)
{
	struct record_load *load = self;
	const u32 last = load->last_tail, next = load->tails.nr ? load->tail_infos[last].next : 0;
	enum text_status status = find_or_add_stack(&load->tails, last, next, end, final, record,
						    number, add_tail, load);

	if (status == TEXT_RECORD && *number != NO_STRING) {
		load->tail_infos[last].next = *number;
		load->last_tail = *number;
	}
	return status;
}

/* ---- the PFN line ---- */

static u64 parse_hex(const char *p, const char *end)
{
	u64 value = 0;

	for (; p < end; p++) {
		unsigned char digit = (unsigned char)*p,
			      value_of = digit <= '9' ? digit - '0' : digit - 'a' + 10;

		if (value_of > 15)
			break;
		value = value << 4 | value_of;
	}
	return value;
}

static u64 parse_dec(const char *p, const char *end)
{
	u64 value = 0;

	for (; p < end && (unsigned char)(*p - '0') < 10; p++)
		value = 10 * value + (u64)(*p - '0');
	return value;
}

/* The number behind a name in the flags' parentheses, "node=3"; 0: there is none. */
static u16 parse_field(const char *p, const char *end, const char *name)
{
	const char *found = memmem(p, (size_t)(end - p), name, strlen(name));
	u64 value = found ? parse_dec(found + strlen(name), end) : 0;

	return value < FILTER_NODES ? (u16)value : FILTER_NODES - 1;
}

static bool has_flag(const char *p, const char *end, const char *name)
{
	const size_t size = strlen(name);

	for (; (p = memmem(p, (size_t)(end - p), name, size)); p++)
		if ((p[-1] == '(' || p[-1] == '|') && (p[size] == '|' || p[size] == ')'))
			return true;
	return false;
}

/* Number of a migratetype by its name; no more than so many names are kept apart. */
static u8 migratetype_of(struct record_load *load, const char *name, size_t size)
{
	u32 number = strings_find(&load->migratetypes, name, size,
				  hash_string(&load->migratetypes, name, size));

	if (number == NO_STRING && load->migratetypes.nr < LOAD_MIGRATETYPES)
		number = strings_add(&load->migratetypes, name, size);
	return number < LOAD_MIGRATETYPES ? (u8)number : LOAD_MIGRATETYPES;
}

/*
 * The text of a number, which is added if need be; NULL: it has another one, or there is no room.
 */
static const struct text *name_text(struct record_load *load, enum text_kind kind, u64 value,
				    const char *name, size_t size)
{
	const struct text *text = text_find(load->names, kind, value);

	if (!text) {
		if (text_cache_full(load->names) ||
		    !text_cache_add(load->names, kind, value, name, size))
			return NULL;
		return text_find(load->names, kind, value);
	}
	return text->size == size && !memcmp(text->data, name, size) ? text : NULL;
}

/* "Movable Flags 0x...(...)", to end, behind the mask's type. */
static void parse_types(struct record_load *load, const char *page_mt, size_t page_mt_size,
			const char *p, const char *end)
{
	struct load_types *types = &load->types;
	const char *name_end = memchr(p, ' ', (size_t)(end - p)),
		   *flags = memmem(p, (size_t)(end - p), " Flags ", 7);

	*types = (struct load_types){0};
	if (!name_end || !flags)
		return;
	flags += 7;
	types->page_mt = migratetype_of(load, page_mt, page_mt_size);
	types->block_mt = migratetype_of(load, p, (size_t)(name_end - p));
	types->flags = parse_hex(flags + 2, end);
	types->nid = parse_field(flags, end, "node=");
	types->zone = (u8)parse_field(flags, end, "zone=");
	types->reserved = has_flag(flags, end, "reserved");
	types->verbatim = !name_text(load, TEXT_FLAGS, types->flags, flags, (size_t)(end - flags));
	if (page_mt_size <= sizeof(types->page_mt_text) &&
	    (size_t)(end - p) <= sizeof(types->text)) {
		types->page_mt_size = page_mt_size;
		memcpy(types->page_mt_text, page_mt, page_mt_size);
		types->text_size = (size_t)(end - p);
		memcpy(types->text, p, types->text_size);
	}
}

/*
 * "PFN 4096 Block 8 type 1 Fallback Flags ...", up to 4.5: the mask's type is told only as being
 * another one.
 */
static void parse_old_types(struct load_types *types, const char *p, const char *end)
{
	const char *type = memmem(p, (size_t)(end - p), " type ", 6);

	*types = (struct load_types){.verbatim = true};
	types->block_mt = type ? (u8)parse_dec(type + 6, end) : 0;
	types->page_mt =
		memmem(p, (size_t)(end - p), "Fallback", 8) ? types->block_mt ^ 1 : types->block_mt;
}

/* What stands in the line into types; number of the block. */
static u64 parse_pfn_line(struct record_load *load, const struct text_record *record)
{
	const char *end = record->pfn_line + record->pfn_line_size;
	const char *p = memchr(record->pfn_line + 4, ' ', record->pfn_line_size - 4), *block,
		   *page_mt, *types;
	struct load_types *known = &load->types;
	size_t size;

	if (!p || end - p < 6 || memcmp(p, " type ", 6)) {
		parse_old_types(known, record->pfn_line, end);
		block = memmem(record->pfn_line, record->pfn_line_size, " Block ", 7);
		return block ? parse_dec(block + 7, end) : 0;
	}
	page_mt = p + 6;
	p = memchr(page_mt, ' ', (size_t)(end - page_mt));
	if (!p)
		return 0;
	size = (size_t)(p - page_mt);
	block = p + sizeof(" Block ") - 1;
	p = memchr(block, ' ', (size_t)(end - block));
	if (!p)
		return 0;
	types = p + sizeof(" type ") - 1;
	if (!known->text_size || known->page_mt_size != size ||
	    memcmp(known->page_mt_text, page_mt, size) ||
	    known->text_size != (size_t)(end - types) ||
	    memcmp(known->text, types, known->text_size))
		parse_types(load, page_mt, size, types, end);
	return parse_dec(block, end);
}

/* Which order pageblocks have: what PFN and block say, from the first record on that can tell. */
static void learn_pageblock_order(struct record_load *load, u64 pfn, u64 block)
{
	unsigned int order = load->pageblock_order;

	if (load->pageblock_order_known)
		return;
	if (block == 0 && pfn > load->last_pfn_of_block_0)
		load->last_pfn_of_block_0 = pfn;
	if (block == 0 && pfn >> order == 0)
		return;
	for (order = 0; order < 40 && pfn >> order != block; order++)
		;
	/* What was read before has to stay right. */
	if (order == 40 || load->last_pfn_of_block_0 >> order)
		return;
	load->pageblock_order = order;
	load->pageblock_order_known = block != 0;
}

/* ---- records ---- */

/* Does its text come back from the record? */
static bool is_canonical(struct record_load *load, const struct text_record *text,
			 struct record *record, const char *mask, size_t mask_size)
{
	const size_t size = (size_t)(text->stack - text->start);
	const struct load_types *types = &load->types;
	char made[2048 + 2 * TEXT_MASK_MAX], *p;
	char page_mt[sizeof(struct text) + 32], block_mt[sizeof(struct text) + 32];

	if (types->verbatim || text->ragged || text->end != text->stack + text->stack_size + 1 ||
	    size > 4000 || types->page_mt >= load->migratetypes.nr ||
	    types->block_mt >= load->migratetypes.nr)
		return false;
	record->gfp = name_text(load, TEXT_GFP, record->owner.gfp_mask, mask, mask_size);
	record->flags = text_find(load->names, TEXT_FLAGS, types->flags);
	if (!record->gfp || !record->flags)
		return false;
	for (int i = 0; i < 2; i++) {
		const struct string *name =
			&load->migratetypes.items[i ? types->block_mt : types->page_mt];
		struct text *out = (struct text *)(i ? block_mt : page_mt);

		if (name->size > 32)
			return false;
		out->size = (u32)name->size;
		memcpy(out->data, name->text, name->size);
	}
	record->page_mt = (struct text *)page_mt;
	record->block_mt = (struct text *)block_mt;
	if (header_size(record) + pfn_line_size(record) != size)
		return false;
	p = put_types(put_numbers(put_head(made, record), record), record);
	return (size_t)(p - made) == size && !memcmp(made, text->start, size);
}

static bool add_record(void *self, const struct text_record *text, u32 number)
{
	struct record_load *load = self;
	const struct load_tail *tail = &load->tail_infos[number];
	const char *mask_end = memchr(text->mask, '(', text->mask_size);
	u64 mask = parse_hex(text->mask + 2, mask_end ? mask_end : text->mask + text->mask_size);
	u64 block = parse_pfn_line(load, text);
	const struct load_types *types = &load->types;
	struct record record = {
		.pfn = text->pfn, .fields = text->fields, .comm_size = text->comm_size};
	const struct record_info info = {.flags = types->flags,
					 .memcg = tail->note,
					 .page_mt = types->page_mt,
					 .fields = text->fields,
					 .nid = types->nid,
					 .zone = types->zone,
					 .reserved = types->reserved};
	struct page_owner *owner = &record.owner;
	bool canonical;

	learn_pageblock_order(load, text->pfn, block);
	record.block = text->pfn >> load->pageblock_order;
	*owner = (struct page_owner){.ts_nsec = text->ts_nsec,
				     .free_ts_nsec = text->free_ts_nsec,
				     .gfp_mask = (u32)mask,
				     .pid = text->pid,
				     .tgid = text->fields & TEXT_HAS_TGID ? text->tgid : text->pid,
				     .handle = tail->handle,
				     .order = text->order,
				     .last_migrate_reason = tail->migrate_reason,
				     .state = PAGE_EXT_OWNER_ALLOCATED |
					      (tail->early ? PAGE_EXT_OWNER_EARLY : 0),
				     .pageblock_migratetype = types->block_mt};
	memcpy(owner->comm, text->comm, text->comm_size);
	if (load->last_info_number == UINT32_MAX || memcmp(&info, &load->last_info, sizeof(info))) {
		load->last_info_number = record_list_info(load->list, &info);
		load->last_info = info;
	}
	canonical = is_canonical(load, text, &record, text->mask, text->mask_size);
	return load->last_info_number != UINT32_MAX &&
	       record_list_add(load->list, owner, text->pfn, load->last_info_number, NULL) &&
	       (canonical ||
		record_list_keep_text(load->list, text->start, (size_t)(text->end - text->start)));
}

static const char *check_record(const struct text_record *record)
{
	return record->fields & TEXT_HAS_PFN ? NULL : "there is no PFN line";
}

ptrdiff_t record_load_feed(struct record_load *load, const char *text, size_t size, bool final)
{
	static const struct text_walker walker = {find_tail, check_record, add_record};

	return text_walk(&load->walk, &walker, load, text, size, final);
}
