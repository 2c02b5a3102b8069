// SPDX-License-Identifier: MIT
/*
 * record_load.c - page_owner text to records.
 *
 * Some text can't be reproduced exactly from the fields of a record: a mask that prints differently
 * elsewhere, CR LF, lines of kernels up to 4.5. Such records are found by rendering them again, and
 * their text is kept.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "base/vector.h"
#include "text/known_stacks.h"
#include "tables/find.h"
#include "text/record_load.h"
#include "text/record_text.h"

/* longest header and PFN line, in bytes, that is compared with rendered text */
#define MADE_MAX 4000
#define EARLY_STACK "register_early_stack"
/* this source does not know the masks of early pages */
#define OUR_KERNEL_SOURCE " [pageownerfs.sources.kernel."

bool record_load_init(struct record_load *load, struct record_list *list,
		      const struct load_words *words)
{
	*load = (struct record_load){
		.list = list, .words = *words, .pageblock_order = 9, .last_info_number = NO_NUMBER};
	load->masks = text_cache_new();
	return load->masks;
}

void record_load_free(struct record_load *load)
{
	strings_free(&load->stacks);
	strings_free(&load->notes);
	strings_free(&load->tails);
	strings_free(&load->words.migratetypes);
	strings_free(&load->words.migrate_reasons);
	text_cache_put(load->masks);
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

/* ---- the lines after the PFN line ---- */

/* The end of the stack lines, which all begin with a blank. */
static const char *stack_end(const char *p, const char *end)
{
	const char *eol;

	for (; p < end && *p == ' ' && (eol = memchr(p, '\n', (size_t)(end - p))); p = eol + 1)
		;
	return p;
}

/*
 * Parse "Page has been migrated, ...": returns the number of its reason and moves *p past the line,
 * or returns -1.
 */
static s8 parse_reason(const struct record_load *load, const char **p, const char *end)
{
	const char *name = *p + sizeof(migrated_line) - 1, *eol;
	u32 number;

	if ((size_t)(end - *p) < sizeof(migrated_line) ||
	    memcmp(*p, migrated_line, sizeof(migrated_line) - 1))
		return -1;
	eol = memchr(name, '\n', (size_t)(end - name));
	number = eol ? strings_find(&load->words.migrate_reasons, name, (size_t)(eol - name))
		     : NO_STRING;
	if (number > INT8_MAX)
		return -1;
	*p = eol + 1;
	return (s8)number;
}

static u32 add_tail(void *self, const char *text, size_t size)
{
	struct record_load *load = self;
	const char *end = text + size, *notes = stack_end(text, end);
	const size_t stack_size = (size_t)(notes - text);
	struct load_tail tail = {.next = load->tails.nr};
	u32 number;

	/* Set up its info first: a tail that can be found must have one. */
	if (!vector_reserve(load->tail_infos, load->tails.nr, &load->tail_infos_room))
		return NO_STRING;
	tail.handle = record_load_stack(load, text, stack_size);
	tail.early = memmem(text, stack_size, EARLY_STACK, sizeof(EARLY_STACK) - 1);
	if (tail.early &&
	    memmem(text, stack_size, OUR_KERNEL_SOURCE, sizeof(OUR_KERNEL_SOURCE) - 1))
		load->early_unknown = true;
	tail.migrate_reason = parse_reason(load, &notes, end);
	if (notes < end)
		tail.note = record_load_note(load, notes, (size_t)(end - notes));
	if (!tail.handle || (notes < end && !tail.note))
		return NO_STRING;
	number = strings_add(&load->tails, text, size);
	if (number == tail.next)
		load->tail_infos[number] = tail;
	return number;
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

/* The value of the field name in "node=3|zone=1"; 0: there is none. */
static u16 field_value(const struct string *fields, const char *name)
{
	const size_t size = strlen(name);
	const char *p = fields->text, *end = p + fields->size;
	u64 value = 0;

	while (p && (size_t)(end - p) > size && (memcmp(p, name, size) || p[size] != '=')) {
		p = memchr(p, '|', (size_t)(end - p));
		p = p ? p + 1 : NULL;
	}
	if (!p || (size_t)(end - p) <= size)
		return 0;
	for (p += size + 1; p < end && (unsigned char)(*p - '0') < 10; p++)
		value = value < FILTER_NODES ? 10 * value + (u64)(*p - '0') : value;
	return value < FILTER_NODES ? (u16)value : FILTER_NODES - 1;
}

static bool has_name(const struct string *names, const char *name)
{
	const size_t size = strlen(name);
	const char *p = names->text, *end = p + names->size;

	while (p && (size_t)(end - p) >= size) {
		if (!memcmp(p, name, size) && (p + size == end || p[size] == '|'))
			return true;
		p = memchr(p, '|', (size_t)(end - p));
		p = p ? p + 1 : NULL;
	}
	return false;
}

/* Split "head|lru|node=0|zone=1" where the first field begins. */
static void split_flags(const char *text, size_t size, struct string *names, struct string *fields)
{
	const char *end = text + size, *p = memchr(text, '=', size);

	if (!p)
		p = end;
	else
		while (p > text && p[-1] != '|')
			p--;
	*fields = (struct string){p, (size_t)(end - p)};
	*names = (struct string){text, (size_t)(p - text - (p > text && p < end))};
}

/* The number of a migratetype name; all names beyond LOAD_MIGRATETYPES share one. */
static u8 migratetype_of(struct record_load *load, const char *name, size_t size)
{
	struct strings *known = &load->words.migratetypes;
	u32 number = strings_find(known, name, size);

	if (number == NO_STRING && known->nr < LOAD_MIGRATETYPES)
		number = strings_add(known, name, size);
	return number < LOAD_MIGRATETYPES ? (u8)number : LOAD_MIGRATETYPES;
}

/* Keep both texts as strings of the list, for load->types. False: no memory. */
static bool keep_flags(struct record_load *load, const struct string *names,
		       const struct string *fields)
{
	struct strings *texts = &load->list->flag_texts;
	const u32 first = strings_add(texts, names->text, names->size);
	const u32 second = strings_add(texts, fields->text, fields->size);

	if (first == NO_STRING || second == NO_STRING)
		return false;
	load->types.flag_names = texts->items[first];
	load->types.flag_fields = texts->items[second];
	return true;
}

/* Work out what the end of the line says, and the mask's migratetype before it. */
static void understand_types(struct record_load *load, const struct text_record *text)
{
	const struct text_types *parsed = &text->parsed;
	struct load_types *types = &load->types;
	struct string names, fields;

	*types = (struct load_types){.number = parsed->number,
				     .page_mt = parsed->old_page_mt,
				     .block_mt = parsed->old_block_mt,
				     .verbatim = true};
	if (!parsed->size)
		return;
	types->page_mt = migratetype_of(load, text->page_mt, text->page_mt_size);
	types->block_mt = migratetype_of(load, text->types, parsed->block_mt_size);
	if (text->page_mt_size <= sizeof(types->page_mt_text)) {
		types->page_mt_size = text->page_mt_size;
		memcpy(types->page_mt_text, text->page_mt, text->page_mt_size);
	}
	split_flags(text->types + parsed->names_at, parsed->size - parsed->names_at - 1, &names,
		    &fields);
	types->nid = field_value(&fields, load->words.node);
	types->zone = (u8)field_value(&fields, load->words.zone);
	types->reserved = has_name(&names, load->words.reserved);
	types->verbatim = !keep_flags(load, &names, &fields);
}

static const struct load_types *types_of(struct record_load *load, const struct text_record *text)
{
	const struct load_types *types = &load->types;

	if (types->number != text->parsed.number || types->page_mt_size != text->page_mt_size ||
	    memcmp(types->page_mt_text, text->page_mt, text->page_mt_size))
		understand_types(load, text);
	return types;
}

/*
 * Derive the pageblock order from PFN and block number, with the first record that determines it.
 */
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
	/* The records read before must remain right. */
	if (order == 40 || load->last_pfn_of_block_0 >> order)
		return;
	load->pageblock_order = order;
	load->pageblock_order_known = block != 0;
}

/* ---- records ---- */

/*
 * Can this text be found again by the mask's number? Not if the number has printed differently
 * before.
 */
static bool keep_mask(struct record_load *load, const struct text_record *text)
{
	const struct text *known = text_find(load->masks, TEXT_GFP, text->gfp_mask);

	if (!known)
		return !text_cache_full(load->masks) &&
		       text_cache_add(load->masks, TEXT_GFP, text->gfp_mask, text->mask,
				      text->mask_size);
	return known->size == text->mask_size && !memcmp(known->data, text->mask, known->size);
}

/* Do the record's fields reproduce its text? */
static bool is_canonical(struct record_load *load, const struct text_record *text,
			 const struct record_info *info)
{
	const struct load_types *types = &load->types;
	const size_t size = (size_t)(text->stack - text->start);
	const struct header header = {.mask = text->mask,
				      .comm = text->comm,
				      .mask_size = text->mask_size,
				      .comm_size = text->comm_size,
				      .pid = text->pid,
				      .tgid = text->tgid,
				      .order = text->order,
				      .fields = text->fields};
	const struct flags_text flags = printed_flags(info);
	const struct pfn_line line = {.pfn = text->pfn,
				      .block = text->pfn >> load->pageblock_order,
				      .page_mt = text->page_mt,
				      .block_mt = text->types,
				      .page_mt_size = text->page_mt_size,
				      .block_mt_size = text->parsed.block_mt_size,
				      .flags = &flags,
				      .hex = text->fields & TEXT_PFN_HEX};
	char made[MADE_MAX], *p;

	if (types->verbatim || text->ragged || text->end != text->stack + text->stack_size + 1 ||
	    size > MADE_MAX || types->page_mt >= LOAD_MIGRATETYPES ||
	    types->block_mt >= LOAD_MIGRATETYPES || !keep_mask(load, text))
		return false;
	if (header_size(&header, text->ts_nsec, text->free_ts_nsec) + pfn_line_size(&line) != size)
		return false;
	p = put_times(put_header(made, &header), text->fields, &text->ts_nsec, text->free_ts_nsec);
	p = put_types(put_pfn(p, line.pfn, line.hex), &line);
	return (size_t)(p - made) == size && !memcmp(made, text->start, size);
}

static struct page_owner owner_of(const struct text_record *text, const struct load_tail *tail,
				  u8 block_mt)
{
	struct page_owner owner = {.ts_nsec = text->ts_nsec,
				   .free_ts_nsec = text->free_ts_nsec,
				   .gfp_mask = text->gfp_mask,
				   .pid = text->pid,
				   .tgid = text->fields & TEXT_HAS_TGID ? text->tgid : text->pid,
				   .handle = tail->handle,
				   .order = text->order,
				   .last_migrate_reason = tail->migrate_reason,
				   .state = PAGE_EXT_OWNER_ALLOCATED |
					    (tail->early ? PAGE_EXT_OWNER_EARLY : 0),
				   .pageblock_migratetype = block_mt};

	memcpy(owner.comm, text->comm, text->comm_size);
	return owner;
}

static bool add_record(void *self, const struct text_record *text, u32 number)
{
	struct record_load *load = self;
	const struct load_tail *tail = &load->tail_infos[number];
	const struct load_types *types = types_of(load, text);
	const struct page_owner owner = owner_of(text, tail, types->block_mt);
	const struct record_info info = {.flags = text->parsed.flags,
					 .memcg = tail->note,
					 .flag_names = types->flag_names.text,
					 .flag_fields = types->flag_fields.text,
					 .flag_names_size = (u16)types->flag_names.size,
					 .flag_fields_size = (u16)types->flag_fields.size,
					 .nid = types->nid,
					 .zone = types->zone,
					 .page_mt = types->page_mt,
					 .fields = text->fields,
					 .reserved = types->reserved};

	learn_pageblock_order(load, text->pfn, text->block);
	if (load->last_info_number == NO_NUMBER || memcmp(&info, &load->last_info, sizeof(info))) {
		load->last_info_number = record_list_info(load->list, &info);
		load->last_info = info;
	}
	if (load->last_info_number == NO_NUMBER)
		return false;
	if (is_canonical(load, text, &info))
		return record_list_add(load->list, &owner, text->pfn, load->last_info_number, NULL);
	return record_list_add_text(load->list, &owner, text->pfn, load->last_info_number,
				    text->start, (size_t)(text->end - text->start));
}

static const char *check_record(const struct text_record *record)
{
	return record->fields & TEXT_HAS_PFN ? NULL : "the PFN line is missing";
}

ptrdiff_t record_load_feed(struct record_load *load, const char *text, size_t size, bool final)
{
	static const struct text_walker walker = {find_tail, check_record, add_record};

	return text_walk(&load->walk, &walker, load, text, size, final);
}

/* ---- names ---- */

static bool string_at(const struct strings *strings, u64 number, struct string *text)
{
	if (number >= strings->nr)
		return false;
	*text = strings->items[number];
	return true;
}

bool record_load_text(const struct record_load *load, enum text_kind kind, u64 value,
		      struct string *text)
{
	const struct text *mask;

	switch (kind) {
	case TEXT_STACK:
		return string_at(&load->stacks, value - 1, text);
	case TEXT_MEMCG:
		return string_at(&load->notes, value - 1, text);
	case TEXT_MIGRATETYPE:
		return string_at(&load->words.migratetypes, value, text);
	case TEXT_MIGRATE_REASON:
		return string_at(&load->words.migrate_reasons, value, text);
	case TEXT_GFP:
		mask = text_find(load->masks, kind, value);
		if (mask)
			*text = (struct string){.text = mask->data, .size = mask->size};
		return mask;
	default:
		return false;
	}
}

bool record_load_flags(const struct record_load *load, u64 word, struct flags_text *flags)
{
	const struct record_list *list = load->list;

	for (u32 i = 0; i < list->nr_infos; i++) {
		if (list->infos[i].flags == word && list->infos[i].flag_names) {
			*flags = printed_flags(&list->infos[i]);
			return true;
		}
	}
	return false;
}
