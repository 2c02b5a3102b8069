// SPDX-License-Identifier: MIT
/*
 * load_memory.c - load and group a dump while single memory allocations fail.
 *
 *   load_memory FILE    load it without a failure, then with each; print how many there were
 *
 * Whatever gets no memory must continue where it was once there is some. In the end the table must
 * print exactly the text that was loaded, and the groups must be the same. Link with --wrap for the
 * functions below.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sort/page_owner_sort.h"
#include "tables/record_table.h"
#include "text/record_load.h"
#include "text/render.h"

#define STEP 5000 /* bytes fed at a time */

static long nr_calls, failing = -1;

void *__real_malloc(size_t size);
void *__real_calloc(size_t nr, size_t size);
void *__real_realloc(void *memory, size_t size);

static bool fails(void)
{
	return nr_calls++ == failing;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t nr, size_t size)
{
	return fails() ? NULL : __real_calloc(nr, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
	return fails() ? NULL : __real_realloc(memory, size);
}

static const struct flags_layout layout = {.names_mask = ~0ULL};

struct loaded {
	struct record_table table;
	struct record_load load;
	char *text;
	size_t size, room;
};

/* Feed the whole text; call feed() again after a failure. */
static void feed_all(ptrdiff_t (*feed)(void *self, const char *text, size_t size, bool final),
		     void *self, struct text_walk *walk, const char *text, size_t size)
{
	int nr_failed = 0;

	while (walk->nr_bytes < size) {
		const size_t rest = size - walk->nr_bytes, step = rest < STEP ? rest : STEP;
		ptrdiff_t used = feed(self, text + walk->nr_bytes, step, step == rest);

		if (used < 0 && nr_failed++)
			errx(1, "failure %ld: failed twice", failing);
		if (used == 0)
			errx(1, "failure %ld: used none of %zu bytes", failing, step);
	}
}

static ptrdiff_t feed_load(void *self, const char *text, size_t size, bool final)
{
	return record_load_feed(self, text, size, final);
}

static ptrdiff_t feed_sorter(void *self, const char *text, size_t size, bool final)
{
	return sorter_feed(self, text, size, final);
}

static void add_words(struct strings *strings, const char *const *words)
{
	for (; *words; words++)
		if (strings_add(strings, *words, strlen(*words)) == NO_STRING)
			errx(1, "no memory for '%s'", *words);
}

/* Print the table as it was read, so that all texts come from the loader. */
static void print_all(struct loaded *loaded)
{
	struct text_cache *cache = text_cache_new();
	struct reader reader;
	long size;

	reader_init(&reader, &loaded->table.table, &layout);
	for (;;) {
		struct string text;

		size = reader_read(&reader, cache, loaded->text + loaded->size,
				   loaded->room - loaded->size, loaded->size, true);
		if (size > 0)
			loaded->size += (size_t)size;
		else if (size == 0)
			break;
		else if (size != RENDER_MISS ||
			 !record_load_text(&loaded->load, reader.miss.kind, reader.miss.value,
					   &text) ||
			 !text_cache_add(cache, reader.miss.kind, reader.miss.value, text.text,
					 text.size))
			errx(1, "failure %ld: no text of kind %d for %llu", failing,
			     reader.miss.kind, (unsigned long long)reader.miss.value);
	}
	reader_free(&reader);
	text_cache_put(cache);
}

static void check_load(const char *text, size_t size)
{
	static const char *const migratetypes[] = {"Unmovable", "Movable", NULL};
	static const char *const reasons[] = {"compaction", NULL};
	struct load_words words = {.reserved = "reserved", .node = "node", .zone = "zone"};
	struct loaded loaded = {.room = 2 * size + 1};
	long fail_at = failing;

	failing = -1;
	loaded.text = malloc(loaded.room);
	add_words(&words.migratetypes, migratetypes);
	add_words(&words.migrate_reasons, reasons);
	record_table_init(&loaded.table);
	if (!loaded.text || !record_load_init(&loaded.load, &loaded.table.list, &words))
		errx(1, "no memory");
	failing = fail_at;
	nr_calls = 0;
	feed_all(feed_load, &loaded.load, &loaded.load.walk, text, size);
	failing = -1;
	record_table_update(&loaded.table);
	loaded.table.table.pageblock_order = loaded.load.pageblock_order;
	print_all(&loaded);
	if (loaded.size != size || memcmp(loaded.text, text, size))
		errx(1, "failure %ld: the table prints a different text", fail_at);
	record_load_free(&loaded.load);
	record_list_free(&loaded.table.list);
	free(loaded.text);
	failing = fail_at;
}

/* A checksum of the groups. */
static u64 check_sort(const char *text, size_t size)
{
	struct sorter sorter = {.key = BIT(FIELD_TXT)};
	u64 sum = 0;

	nr_calls = 0;
	feed_all(feed_sorter, &sorter, &sorter.walk, text, size);
	for (u32 i = 0; i < sorter.nr_groups; i++) {
		const struct sort_group *group = &sorter.groups[i];
		const u32 module = sorter.stack_infos[group->stack].module;

		sum = 31 * sum + group->times;
		sum = 31 * sum + (module == NO_STRING ? 0 : sorter.modules.items[module].size);
	}
	sum = 31 * sum + sorter.nr_records;
	sorter_free(&sorter);
	return sum;
}

int main(int argc, char **argv)
{
	FILE *file = argc == 2 ? fopen(argv[1], "r") : NULL;
	static char text[8 << 20];
	long nr_load, nr_sort;
	size_t size;
	u64 sum;

	if (!file)
		errx(2, "usage: load_memory FILE");
	size = fread(text, 1, sizeof(text), file);
	fclose(file);
	check_load(text, size);
	nr_load = nr_calls;
	for (failing = 0; failing < nr_load; failing++)
		check_load(text, size);
	failing = -1;
	sum = check_sort(text, size);
	nr_sort = nr_calls;
	for (failing = 0; failing < nr_sort; failing++)
		if (check_sort(text, size) != sum)
			errx(1, "failure %ld: the groups differ", failing);
	printf("%ld failures of loading, %ld of grouping\n", nr_load, nr_sort);
	return 0;
}
