// SPDX-License-Identifier: MIT
/*
 * step_kill OPERATION [POINTS] - kill a client at every instruction of an operation.
 *
 * A child runs the operation under ptrace, one instruction at a time, and is killed after N
 * instructions, for N = 0, 1, 2 ... (in larger steps if there are more than POINTS). After each
 * kill the dead client is recovered and the pool is checked: no page is lost or corrupt, every
 * allocated page has an owner, and the pool still works. Prints one line. If there are problems,
 * prints them and exits with status 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/gfp.h"
#include "pool/check.h"
#include "pool/create.h"
#include "pool/lock.h"
#include "pool/map.h"
#include "pool/page_alloc.h"
#include "pool/page_reporting.h"
#include "pool/pcp.h"
#include "pool/reclaim.h"
#include "pool/stack_depot.h"
#include "pool/tracking.h"

#define POOL_BYTES (12UL << 20)
#define GFP_MOVABLE 0x100ccau

static char path[64];
static u32 stack;

static void die(const char *what, int error)
{
	fprintf(stderr, "step_kill: %s: %d\n", what, error);
	unlink(path);
	exit(2);
}

static u32 must_alloc(struct pool *pool, unsigned int order, u32 gfp_mask)
{
	u32 pfn = 0;
	int error = alloc_pages(pool, order, gfp_mask, stack, false, &pfn);

	if (error)
		die("alloc_pages", error);
	return pfn;
}

static u32 block, pages[PCP_HIGH_MAX + 1];

/* What the child does first, without ptrace, and then under ptrace. */
static void nothing(struct pool *pool)
{
	(void)pool;
}

static void attach(struct pool *pool)
{
	must_alloc(pool, 0, GFP_KERNEL);
}

static void have_block(struct pool *pool)
{
	block = must_alloc(pool, 4, GFP_MOVABLE);
}

static void alloc_0(struct pool *pool)
{
	must_alloc(pool, 0, GFP_KERNEL);
}

static void alloc_movable(struct pool *pool)
{
	must_alloc(pool, 0, GFP_MOVABLE);
}

static void alloc_4(struct pool *pool)
{
	must_alloc(pool, 4, GFP_KERNEL);
}

static void free_block(struct pool *pool)
{
	int error = free_pages(pool, block, 4, stack);

	if (error)
		die("free_pages", error);
}

static void split_block(struct pool *pool)
{
	int error = split_page(pool, block, 0);

	if (error)
		die("split_page", error);
}

static void have_full_list(struct pool *pool)
{
	u32 nr = pool->pcp_high[ZONE_DMA] + 1;

	for (u32 i = 0; i < nr; i++)
		pages[i] = must_alloc(pool, 0, GFP_KERNEL);
	drain_local_pages(pool);
	for (u32 i = 1; i < nr; i++)
		free_pages(pool, pages[i], 0, stack);
}

static void free_0(struct pool *pool)
{
	int error = free_pages(pool, pages[0], 0, stack);

	if (error)
		die("free_pages", error);
}

static void have_free_blocks(struct pool *pool)
{
	free_pages(pool, must_alloc(pool, 10, GFP_KERNEL), 10, stack);
}

/* As many free blocks as may keep their memory, so that one more returns some. */
static void have_large_blocks(struct pool *pool)
{
	for (int i = 0; i < 4; i++)
		pages[i] = must_alloc(pool, 9, GFP_KERNEL);
	for (int i = 1; i < 4; i++)
		free_pages(pool, pages[i], 9, stack);
}

static void free_9(struct pool *pool)
{
	int error = free_pages(pool, pages[0], 9, stack);

	if (error)
		die("free_pages", error);
}

static void report(struct pool *pool)
{
	page_reporting(pool);
}

static void check_fail(void *arg, const char *problem)
{
	(void)arg;
	fprintf(stderr, "%s\n", problem);
}

static void detach(struct pool *pool)
{
	pool_unregister(pool);
}

static void drain_all(struct pool *pool)
{
	drain_all_pages(pool, PATIENCE_NSEC);
}

static void intern(struct pool *pool)
{
	char text[] = "a string that nobody has interned";

	u32 handle;

	depot_intern(pool, DEPOT_STRING, text, sizeof(text), PATIENCE_NSEC, &handle);
}

static const struct operation {
	const char *name;
	void (*prepare)(struct pool *pool);
	void (*run)(struct pool *pool);
	void (*other)(struct pool *pool); /* what another client, which stays alive, does first */
} operations[] = {
	{"attach", nothing, attach, nothing},
	{"alloc_0", alloc_0, alloc_0, nothing},
	{"alloc_0_refill", nothing, alloc_0, nothing},
	{"alloc_0_fallback", attach, alloc_movable, nothing},
	{"alloc_4", attach, alloc_4, nothing},
	{"free_4", have_block, free_block, nothing},
	{"free_0", attach, free_0, nothing},
	{"free_0_drain", have_full_list, free_0, nothing},
	{"split_page", have_block, split_block, nothing},
	{"free_9_report", have_large_blocks, free_9, nothing},
	{"report_free_pages", have_free_blocks, report, nothing},
	{"detach", have_full_list, detach, nothing},
	{"drain_all_pages", have_full_list, drain_all, nothing},
	{"drain_other", nothing, drain_all, have_full_list},
	{"depot_intern", attach, intern, nothing},
};

static void make_pool(struct pool *pool)
{
	const struct pool_config config = {
		.size = POOL_BYTES, .stack_depot_bytes = 1 << 20, .stack_depth = 16};
	u64 nr_early[MAX_NR_ZONES];
	u32 frame = 1;
	int error = pool_create(pool, path, &config);

	if (error)
		die("pool_create", error);
	error = init_page_owner_memory(pool);
	if (!error)
		error = depot_intern(pool, DEPOT_STACK, &frame, sizeof(frame), PATIENCE_NSEC,
				     &stack);
	pool->header->early_handle = pool->header->failure_handle = stack;
	error = error ? error : init_page_owner(pool, nr_early);
	if (error)
		die("init_page_owner", error);
}

static void child(const struct operation *operation)
{
	struct pool pool;
	int error = pool_open(&pool, path);

	if (error)
		die("pool_open", error);
	operation->prepare(&pool);
	if (operation->run == free_0 && operation->prepare == attach)
		pages[0] = must_alloc(&pool, 0, GFP_KERNEL);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	operation->run(&pool);
	_exit(0);
}

/*
 * Run the operation for up to nr instructions. Returns the number it took, or nr if it was killed.
 */
static long run_and_kill(const struct operation *operation, long nr)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		die("fork", errno);
	if (pid == 0)
		child(operation);
	waitpid(pid, &status, 0);
	for (long step = 0; step < nr; step++) {
		if (WIFEXITED(status)) {
			if (WEXITSTATUS(status))
				die("the operation", WEXITSTATUS(status));
			return step;
		}
		if (!WIFSTOPPED(status))
			die("the child", status);
		ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL);
		waitpid(pid, &status, 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return nr;
}

/* The number of managed pages that are neither free nor allocated. */
static long long missing_pages(struct pool *pool)
{
	long long missing = 0;

	for (int zone = 0; zone < MAX_NR_ZONES; zone++) {
		missing += pool->header->zones[zone].managed_pages;
		missing -= (long long)pool->header->zones[zone].nr_free;
	}
	for (u32 pfn = 0; pfn < pool->nr_pages; pfn++)
		if (word_state(page_word(pool, pfn)) == PAGE_ALLOCATED)
			missing -= 1LL << word_order(page_word(pool, pfn));
	return missing;
}

static int check_pool(struct pool *pool, const char *name, long nr)
{
	int problems;
	u32 pfn;

	if (pool_recover_clients(pool, PATIENCE_NSEC) < 0)
		die("pool_recover_clients", 0);
	problems = pool_check(pool, check_fail, NULL);
	drain_local_pages(pool);
	if (missing_pages(pool)) {
		fprintf(stderr, "%lld pages are missing\n", missing_pages(pool));
		problems++;
	}
	pfn = must_alloc(pool, 0, GFP_KERNEL);
	*(volatile char *)page_address(pool, pfn) = 1;
	if (free_pages(pool, pfn, 0, stack))
		problems++;
	if (problems)
		fprintf(stderr, "step_kill: %s, killed after %ld instructions: %d problems\n", name,
			nr, problems);
	return problems;
}

static int sweep(const struct operation *operation, long points)
{
	long total, step, nr_kills = 0;
	u64 nr_rebuilds = 0, nr_recovered = 0;
	int problems = 0;
	struct pool pool;

	make_pool(&pool);
	operation->other(&pool);
	total = run_and_kill(operation, 1L << 40);
	pool_unmap(&pool);
	unlink(path);
	step = total > points ? total / points : 1;
	for (long nr = 0; nr < total && problems == 0; nr += step) {
		make_pool(&pool);
		operation->other(&pool);
		run_and_kill(operation, nr);
		nr_kills++;
		problems += check_pool(&pool, operation->name, nr);
		nr_rebuilds += pool.header->stats.zone_rebuilds;
		nr_recovered += pool.header->stats.recovered_pages;
		pool_unmap(&pool);
		unlink(path);
	}
	printf("%-18s %7ld instructions, %5ld kills, %4llu zones rebuilt, %6llu pages recovered, "
	       "%d problems\n",
	       operation->name, total, nr_kills, (unsigned long long)nr_rebuilds,
	       (unsigned long long)nr_recovered, problems);
	return problems != 0;
}

int main(int argc, char **argv)
{
	size_t nr = sizeof(operations) / sizeof(operations[0]);

	if (argc < 2) {
		for (size_t i = 0; i < nr; i++)
			puts(operations[i].name);
		return 0;
	}
	snprintf(path, sizeof(path), "/dev/shm/pageownerfs-step-kill-%d", (int)getpid());
	for (size_t i = 0; i < nr; i++)
		if (strcmp(argv[1], operations[i].name) == 0)
			return sweep(&operations[i], argc > 2 ? atol(argv[2]) : 500);
	fprintf(stderr, "step_kill: unknown operation %s\n", argv[1]);
	return 2;
}
