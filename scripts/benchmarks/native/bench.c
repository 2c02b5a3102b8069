// SPDX-License-Identifier: MIT
/*
 * bench.c - what the core costs in C, without Python; scripts/bench runs it.
 *
 *   bench pairs off|on PATH NR_PAIRS CPU    ns per alloc_pages(0) + free_pages
 *   bench parallel off|on PATH SECONDS NR   pairs per second of NR processes, one per CPU
 *   bench render TEXT NR_RECORDS ROUNDS     ns per pass: rendering, and memcpy of the same bytes
 *
 * PATH is the pool file to create; it is unlinked at once. TEXT is page_owner text; the rendered
 * records have its masks, flags and stacks. Built with CONFIG_PAGE_OWNER=0, the program only
 * supports "pairs off" and "parallel off".
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/gfp.h"
#include "pool/create.h"
#include "pool/fork.h"
#include "pool/lock.h"
#include "pool/page_alloc.h"
#include "pool/reclaim.h"
#if CONFIG_PAGE_OWNER
#include "pool/stack_depot.h"
#include "pool/tracking.h"
#include "tables/pool_table.h"
#include "text/render.h"
#endif

#define POOL_BYTES (64UL << 20)
#define DEPOT_BYTES (8UL << 20)
#define MAX_PROCESSES 64
#define PAIRS_PER_LOOK 1000 /* how many pairs between looks at the clock */

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "can't run on CPU %d", cpu);
}

/* The nr-th CPU that this process may use. */
static int nth_cpu(int nr)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		err(1, "sched_getaffinity");
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set) && nr-- == 0)
			return cpu;
	errx(1, "more processes than CPUs");
}

static void check(int error, const char *what)
{
	if (error)
		errx(1, "%s: error %d (%s)", what, -error,
		     -error < 4096 ? strerror(-error) : "bad page");
}

/* Wait for the other processes, if error says so. */
static void wait_for_others(struct pool *pool, int error)
{
	check(error == -EBUSY ? reclaim(pool, error, PATIENCE_NSEC) : error,
	      "alloc_pages and free_pages");
}

static void do_pairs(struct pool *pool, u32 handle, u64 nr)
{
	while (nr--) {
		int error;
		u32 pfn;

		while (unlikely(error = alloc_pages(pool, 0, GFP_KERNEL, handle, false, &pfn)))
			wait_for_others(pool, error);
		while (unlikely(error = free_pages(pool, pfn, 0, handle)))
			wait_for_others(pool, error);
	}
}

#if CONFIG_PAGE_OWNER
static u32 intern(struct pool *pool, enum depot_kind kind, const void *data, size_t bytes)
{
	u32 handle;

	check(depot_intern(pool, kind, data, (u32)bytes, PATIENCE_NSEC, &handle), "depot_intern");
	return handle;
}

/* Intern a stack like those of pystack.c. */
static u32 intern_stack(struct pool *pool, unsigned int nr_frames)
{
	u32 frames[MAX_STACK_DEPTH];

	for (unsigned int i = 0; i < nr_frames; i++) {
		char name[32];
		int size = snprintf(name, sizeof(name), "function_%u", i);
		struct depot_frame frame = {.offset = i, .size = 100, .lineno = i};

		frame.name = frame.module = frame.filename =
			intern(pool, DEPOT_STRING, name, (size_t)size);
		frames[i] = intern(pool, DEPOT_FRAME, &frame, sizeof(frame));
	}
	return intern(pool, DEPOT_STACK, frames, nr_frames * sizeof(frames[0]));
}

static u32 switch_on(struct pool *pool)
{
	u64 nr_early[MAX_NR_ZONES] = {0};
	u32 handle;

	check(init_page_owner_memory(pool), "memory for page_ext");
	handle = intern_stack(pool, 8);
	pool->header->early_handle = pool->header->failure_handle = handle;
	check(init_page_owner(pool, nr_early), "init_page_owner");
	return handle;
}
#else
static u32 switch_on(struct pool *pool)
{
	(void)pool;
	errx(1, "built without tracking");
}
#endif

/*
 * Create a pool that disappears with this process. Returns the handle for all allocations, 0 if
 * tracking is off.
 */
static u32 make_pool(struct pool *pool, const char *path, const char *tracking)
{
	struct pool_config config = {
		.size = POOL_BYTES, .stack_depot_bytes = DEPOT_BYTES, .stack_depth = 16};

	if (strcmp(tracking, "on") && strcmp(tracking, "off"))
		errx(2, "tracking is on or off, not %s", tracking);
	check(pool_create(pool, path, &config), path);
	if (unlink(path))
		err(1, "can't remove %s", path);
	pool_link(pool);
	return strcmp(tracking, "on") == 0 ? switch_on(pool) : 0;
}

static void bench_pairs(const char *tracking, const char *path, u64 nr_pairs, int cpu)
{
	struct pool pool;
	u32 handle;
	u64 start;

	pin(nth_cpu(cpu));
	handle = make_pool(&pool, path, tracking);
	do_pairs(&pool, handle, nr_pairs / 10);
	start = ktime_get_ns();
	do_pairs(&pool, handle, nr_pairs);
	printf("%.4f\n", (double)(ktime_get_ns() - start) / (double)nr_pairs);
	pool_unregister(&pool);
}

struct gang {
	_Atomic unsigned int nr_ready;
	_Atomic double rate[MAX_PROCESSES]; /* pairs per second */
};

/* Run one of the processes; it starts measuring when all are there. */
static void run_member(struct pool *pool, u32 handle, struct gang *gang, unsigned int me,
		       unsigned int nr, double seconds)
{
	u64 start, now, end, nr_pairs = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(nth_cpu((int)me));
	do_pairs(pool, handle, 100 * PAIRS_PER_LOOK);
	atomic_fetch_add(&gang->nr_ready, 1);
	while (atomic_load(&gang->nr_ready) < nr)
		sched_yield();
	start = now = ktime_get_ns();
	end = start + (u64)(seconds * 1e9);
	while (now < end) {
		do_pairs(pool, handle, PAIRS_PER_LOOK);
		nr_pairs += PAIRS_PER_LOOK;
		now = ktime_get_ns();
	}
	gang->rate[me] = (double)nr_pairs * 1e9 / (double)(now - start);
	/* Keep working until all have measured. */
	atomic_fetch_add(&gang->nr_ready, 1);
	while (atomic_load(&gang->nr_ready) < 2 * nr)
		do_pairs(pool, handle, PAIRS_PER_LOOK);
	pool_unregister(pool);
}

static void bench_parallel(const char *tracking, const char *path, double seconds, unsigned int nr)
{
	struct gang *gang = mmap(NULL, sizeof(*gang), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double sum = 0;
	struct pool pool;
	u32 handle;

	if (gang == MAP_FAILED || nr < 1 || nr > MAX_PROCESSES)
		errx(2, "1 to %d processes", MAX_PROCESSES);
	nth_cpu((int)nr - 1);
	handle = make_pool(&pool, path, tracking);
	for (unsigned int me = 0; me < nr; me++) {
		pid_t pid = fork();

		if (pid < 0)
			err(1, "fork");
		if (pid == 0) {
			run_member(&pool, handle, gang, me, nr, seconds);
			_exit(0);
		}
	}
	for (unsigned int me = 0; me < nr; me++) {
		int status;

		if (wait(&status) < 0 || status)
			errx(1, "a process has failed"); /* the others get SIGKILL */
	}
	for (unsigned int me = 0; me < nr; me++)
		sum += gang->rate[me];
	printf("%.0f\n", sum);
}

#if CONFIG_PAGE_OWNER
#define READ_BYTES (128UL << 10) /* the size of reads from FUSE */
#define MAX_SHAPES 8192
#define MEMCPY_SOURCE_MAX (256UL << 20)
#define RUN_LENGTH 17 /* average number of neighbours with the same stack on a running kernel */

/* A record of the text, which rendered records are modelled on. */
struct shape {
	u32 gfp_mask, handle;
	u64 flags;
};

/* Flags as in the text: everything in their brackets counts as names. */
static const struct flags_layout layout = {.names_mask = ~0ULL};

static struct shape shapes[MAX_SHAPES];
static unsigned int nr_shapes;

static char *read_whole_file(const char *path)
{
	FILE *file = fopen(path, "r");
	size_t room = 16UL << 20, size;
	char *text = malloc(room);

	if (!file || !text)
		err(1, "%s", path);
	size = fread(text, 1, room - 1, file);
	if (!feof(file))
		errx(1, "%s: larger than %zu bytes", path, room);
	text[size] = 0;
	fclose(file);
	return text;
}

static char *find_after(char *text, const char *what)
{
	char *found = strstr(text, what);

	if (!found)
		errx(1, "no '%s' in this record: %.60s", what, text);
	return found + strlen(what);
}

/* The handle of a stack; equal texts get the same one. */
static u32 handle_of(struct text_cache *cache, const char *text, size_t size)
{
	static struct {
		const char *text;
		size_t size;
	} known[MAX_SHAPES];
	static u32 nr;
	u32 i;

	for (i = 0; i < nr; i++)
		if (known[i].size == size && memcmp(known[i].text, text, size) == 0)
			return i + 1;
	if (nr == MAX_SHAPES || !text_cache_add(cache, TEXT_STACK, i + 1, text, size))
		errx(1, "too many stacks");
	known[nr].text = text;
	known[nr++].size = size;
	return i + 1;
}

/* Add the mask, flags and stack of a record to the cache. The record is NUL-terminated. */
static void add_shape(struct text_cache *cache, char *record)
{
	char *mask = find_after(record, ", mask "), *flags = find_after(record, " Flags "), *stack,
	     *end, *names;
	struct shape *shape = &shapes[nr_shapes++];

	if (nr_shapes == MAX_SHAPES)
		errx(1, "more than %d records", MAX_SHAPES - 1);
	shape->gfp_mask = (u32)strtoul(mask, NULL, 16);
	text_cache_add(cache, TEXT_GFP, shape->gfp_mask, mask,
		       (size_t)(strstr(mask, ", pid ") - mask));
	shape->flags = strtoull(flags, &names, 16);
	stack = find_after(flags, "\n");
	names++; /* after the bracket */
	text_cache_add(cache, TEXT_FLAGS, shape->flags, names, (size_t)(stack - 2 - names));
	for (end = stack; *end == ' '; end = find_after(end, "\n"))
		;
	shape->handle = handle_of(cache, stack, (size_t)(end - stack));
}

static struct text_cache *load_shapes(const char *path)
{
	struct text_cache *cache = text_cache_new();
	char *text = read_whole_file(path);

	if (!cache)
		errx(1, "out of memory");
	text_cache_add(cache, TEXT_MIGRATETYPE, MIGRATE_UNMOVABLE, "Unmovable", 9);
	text_cache_add(cache, TEXT_MIGRATETYPE, MIGRATE_MOVABLE, "Movable", 7);
	text_cache_add(cache, TEXT_MIGRATETYPE, MIGRATE_RECLAIMABLE, "Reclaimable", 11);
	for (char *end; (end = strstr(text, "\n\n")); text = end + 2) {
		end[1] = 0;
		add_shape(cache, text);
	}
	if (nr_shapes == 0)
		errx(1, "%s: no record", path);
	return cache;
}

static u32 next_random(u32 *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

static void *map_shared(size_t bytes)
{
	/*
	 * Shared, like a pool. The renderer unmaps what it has read, which would lose private
	 * memory.
	 */
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		err(1, "%zu bytes for the table", bytes);
	return memory;
}

/* Fill a table with nr records, like those of a busy pool. */
static void fill_table(struct pool_table *table, u64 nr)
{
	static struct pool_header header = {.gate = GATE_PAGE_OWNER};
	static struct pool pool;
	struct page_owner *page_ext = map_shared(nr * sizeof(*page_ext));
	struct page *mem_map = map_shared(nr * sizeof(*mem_map));
	u8 *pageblock_flags = map_shared(nr / PAGEBLOCK_NR_PAGES + 1);
	const struct shape *shape = &shapes[0];
	u32 random = 1;

	for (u64 pfn = 0; pfn < nr; pfn++) {
		if (next_random(&random) % RUN_LENGTH == 0)
			shape = &shapes[next_random(&random) % nr_shapes];
		page_ext[pfn] = (struct page_owner){.ts_nsec = 1000000000000 + pfn * 1117,
						    .gfp_mask = shape->gfp_mask,
						    .pid = (s32)(1000 + shape->handle % 64),
						    .tgid = (s32)(1000 + shape->handle % 16),
						    .handle = shape->handle,
						    .last_migrate_reason = -1,
						    .state = PAGE_EXT_OWNER_ALLOCATED,
						    .comm = "kworker/u4:2"};
		mem_map[pfn].flags = shape->flags;
		pageblock_flags[pfn / PAGEBLOCK_NR_PAGES] = (u8)(shape->gfp_mask >> 3 & 3) % 3;
	}
	pool = (struct pool){.header = &header,
			     .mem_map = mem_map,
			     .pageblock_flags = pageblock_flags,
			     .page_ext = page_ext,
			     .nr_pages = (u32)nr};
	pool_table_init(table, &pool);
}

/* Make one pass over the table, into a buffer of READ_BYTES or, with keep, of the whole text. */
static u64 render_all(const struct pool_table *table, const struct text_cache *cache, char *out,
		      bool keep)
{
	struct reader reader;
	u64 offset = 0;
	long size;

	reader_init(&reader, &table->table, &layout);
	while ((size = reader_read(&reader, cache, out + (keep ? offset : 0), READ_BYTES, offset,
				   false)) > 0)
		offset += (u64)size;
	reader_free(&reader);
	if (size < 0)
		errx(1, "rendering failed: %ld", size);
	return offset;
}

/*
 * Copy the same number of bytes in the same steps. hot: always from the first READ_BYTES of source,
 * which stay in the cache.
 */
static void copy_all(char *out, const char *source, u64 bytes, u64 source_bytes, bool hot)
{
	u64 from = 0;

	for (u64 done = 0; done < bytes;) {
		u64 step = bytes - done < READ_BYTES ? bytes - done : READ_BYTES;

		if (from + step > source_bytes)
			from = 0;
		memcpy(out, source + from, step);
		__asm__ __volatile__("" : : "r"(out) : "memory");
		done += step;
		from += hot ? 0 : step;
	}
}

static void bench_render(const char *path, u64 nr_records, int rounds)
{
	struct text_cache *cache = load_shapes(path);
	char *out = aligned_alloc(PAGE_SIZE, READ_BYTES), *source;
	u64 bytes, source_bytes, t0, t1, t2, t3;
	struct pool_table table;

	fill_table(&table, nr_records);
	bytes = render_all(&table, cache, out, false);
	source_bytes = bytes < MEMCPY_SOURCE_MAX ? bytes : MEMCPY_SOURCE_MAX;
	source = malloc(source_bytes + READ_BYTES);
	if (!out || !source)
		errx(1, "out of memory");
	if (bytes <= source_bytes)
		render_all(&table, cache, source, true);
	else
		memset(source, 'P', source_bytes);
	printf("bytes %llu\n", (unsigned long long)bytes);
	while (rounds--) {
		t0 = ktime_get_ns();
		render_all(&table, cache, out, false);
		t1 = ktime_get_ns();
		copy_all(out, source, bytes, source_bytes, false);
		t2 = ktime_get_ns();
		copy_all(out, source, bytes, source_bytes, true);
		t3 = ktime_get_ns();
		printf("%llu %llu %llu\n", (unsigned long long)(t1 - t0),
		       (unsigned long long)(t2 - t1), (unsigned long long)(t3 - t2));
	}
}
#endif

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "pairs") == 0)
		bench_pairs(argv[2], argv[3], strtoull(argv[4], NULL, 0), atoi(argv[5]));
	else if (argc == 6 && strcmp(argv[1], "parallel") == 0)
		bench_parallel(argv[2], argv[3], atof(argv[4]), (unsigned int)atoi(argv[5]));
#if CONFIG_PAGE_OWNER
	else if (argc == 5 && strcmp(argv[1], "render") == 0)
		bench_render(argv[2], strtoull(argv[3], NULL, 0), atoi(argv[4]));
#endif
	else
		errx(2, "usage: bench pairs|parallel|render ...; see the top of bench.c");
	return 0;
}
