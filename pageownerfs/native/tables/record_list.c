// SPDX-License-Identifier: MIT
/*
 * record_list.c - a list of records.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/vector.h"
#include "tables/record_list.h"

#define FIRST_ROOM (1UL << 10)
#define HUGE_BYTES (8UL << 20) /* for less, a huge page would waste memory */
#define WHOLE_PAGES(bytes) (((bytes) + 4095) & ~4095UL)
#define FREES_BYTES(room) WHOLE_PAGES((room) * sizeof(struct last_free))

void record_list_init(struct record_list *list)
{
	*list = (struct record_list){.ascending = true};
}

void record_list_free(struct record_list *list)
{
	if (list->records)
		munmap(list->records, list->room * sizeof(*list->records));
	if (list->last_frees)
		munmap(list->last_frees, FREES_BYTES(list->room));
	for (u32 i = 0; i < list->nr_verbatims; i++)
		free(list->verbatims[i]);
	free(list->verbatims);
	free(list->infos);
	hash_table_free(&list->info_numbers);
	strings_free(&list->flag_texts);
	record_list_init(list);
}

u64 record_list_bytes(const struct record_list *list)
{
	return WHOLE_PAGES(list->nr * sizeof(*list->records)) +
	       (list->last_frees ? FREES_BYTES(list->nr) : 0) +
	       list->nr_infos * sizeof(*list->infos) + list->verbatim_bytes;
}

/* Grow a mapping: unused parts take no memory, and nothing is copied. NULL: no memory. */
static void *grow(void *mapping, size_t old_bytes, size_t bytes)
{
	void *more = mapping ? mremap(mapping, old_bytes, bytes, MREMAP_MAYMOVE)
			     : mmap(NULL, bytes, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (more == MAP_FAILED)
		return NULL;
	if (bytes >= HUGE_BYTES)
		madvise(more, bytes, MADV_HUGEPAGE); /* fewer faults, but it works without */
	return more;
}

void record_list_trim(struct record_list *list)
{
	u64 room = WHOLE_PAGES(list->nr * sizeof(*list->records)) / sizeof(*list->records);
	void *less;

	if (!list->nr || room >= list->room)
		return;
	less = mremap(list->records, list->room * sizeof(*list->records),
		      room * sizeof(*list->records), 0);
	if (less == MAP_FAILED)
		return;
	if (list->last_frees)
		mremap(list->last_frees, FREES_BYTES(list->room), FREES_BYTES(room), 0);
	list->room = room;
}

static bool grow_records(struct record_list *list)
{
	u64 room = list->room ? 2 * list->room : FIRST_ROOM;
	void *more = grow(list->records, list->room * sizeof(*list->records),
			  room * sizeof(*list->records));

	if (!more)
		return false;
	list->records = more;
	if (list->last_frees) {
		more = grow(list->last_frees, FREES_BYTES(list->room), FREES_BYTES(room));
		if (!more) {
			list->records = mremap(list->records, room * sizeof(*list->records),
					       list->room * sizeof(*list->records), MREMAP_MAYMOVE);
			return false;
		}
		list->last_frees = more;
	}
	list->room = room;
	return true;
}

u32 record_list_info(struct record_list *list, const struct record_info *info)
{
	u32 hash = hash_bytes(info, sizeof(*info), HASH_SEED);

	hash_for_each_possible (&list->info_numbers, number, hash)
		if (!memcmp(&list->infos[number], info, sizeof(*info)))
			return number;
	if (!hash_table_reserve(&list->info_numbers) ||
	    !vector_reserve(list->infos, list->nr_infos, &list->infos_room))
		return NO_NUMBER;
	list->infos[list->nr_infos] = *info;
	hash_table_insert(&list->info_numbers, hash, list->nr_infos);
	return list->nr_infos++;
}

bool record_list_add(struct record_list *list, const struct page_owner *owner, u64 pfn, u32 info,
		     const struct last_free *last_free)
{
	struct page_owner *record;

	if (list->nr == list->room && !grow_records(list))
		return false;
	if (last_free && !list->last_frees) {
		list->last_frees = grow(NULL, 0, FREES_BYTES(list->room));
		if (!list->last_frees)
			return false;
	}
	record = &list->records[list->nr];
	*record = *owner;
	record->pfn_low = (u32)pfn;
	record->pfn_high = (u32)(pfn >> 32);
	record->info = info;
	if (last_free)
		list->last_frees[list->nr] = *last_free;
	if (list->nr && pfn <= record_pfn(record - 1))
		list->ascending = false;
	pfn += 1ULL << (owner->order & 63);
	if (pfn > list->end_pfn)
		list->end_pfn = pfn;
	list->nr++;
	return true;
}

bool record_list_add_text(struct record_list *list, const struct page_owner *owner, u64 pfn,
			  u32 info, const char *text, size_t size)
{
	struct verbatim *verbatim;

	if (!vector_reserve(list->verbatims, list->nr_verbatims, &list->verbatims_room))
		return false;
	verbatim = malloc(sizeof(*verbatim) + size);
	if (!verbatim || !record_list_add(list, owner, pfn, info, NULL)) {
		free(verbatim);
		return false;
	}
	verbatim->at = list->nr - 1;
	verbatim->size = size;
	memcpy(verbatim->text, text, size);
	list->verbatims[list->nr_verbatims++] = verbatim;
	list->verbatim_bytes += sizeof(*verbatim) + size;
	list->records[list->nr - 1].state |= PAGE_EXT_OWNER_VERBATIM;
	return true;
}

const struct verbatim *record_list_text(const struct record_list *list, u64 at)
{
	u32 low = 0, high = list->nr_verbatims;

	while (low < high) {
		u32 middle = (low + high) / 2;

		if (list->verbatims[middle]->at < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low < list->nr_verbatims && list->verbatims[low]->at == at ? list->verbatims[low]
									  : NULL;
}

u64 record_list_at(const struct record_list *list, u64 pfn)
{
	u64 low = 0, high = list->nr;

	if (!list->ascending)
		return pfn < list->nr ? pfn : list->nr;
	while (low < high) {
		u64 middle = (low + high) / 2;

		if (record_pfn(&list->records[middle]) < pfn)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool covers(const struct page_owner *record, u64 pfn)
{
	return pfn - record_pfn(record) < 1ULL << (record->order & 63);
}

u64 record_list_find(const struct record_list *list, u64 pfn)
{
	u64 at;

	if (!list->ascending) {
		for (at = list->nr; at--;)
			if (covers(&list->records[at], pfn))
				return at;
		return list->nr;
	}
	at = record_list_at(list, pfn);
	if (at < list->nr && record_pfn(&list->records[at]) == pfn)
		return at;
	return at && covers(&list->records[at - 1], pfn) ? at - 1 : list->nr;
}
