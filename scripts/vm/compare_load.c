// SPDX-License-Identifier: MIT
/*
 * compare_load.c - hold memory of one kind: compare_load KIND AMOUNT [PATH]
 *
 * AMOUNT is in MiB, or the number of objects. Prints "ready" once it holds everything, and waits to
 * be killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1UL << 20)
#define HUGE_BYTES (2 * MIB)

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static char *touch(size_t bytes, int advice, size_t step)
{
	char *memory = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *start = (char *)(((unsigned long)memory + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));

	if (memory == MAP_FAILED)
		fail("mmap");
	madvise(start, bytes, advice);
	for (size_t at = 0; at < bytes; at += step)
		start[at] = 1;
	return start;
}

static void hold_anon(long amount)
{
	touch(amount * MIB, MADV_NOHUGEPAGE, 4096);
}

static void hold_thp(long amount)
{
	touch(amount * MIB, MADV_HUGEPAGE, 4096);
}

/* Give back every other page, so that the rest is scattered. */
static void hold_fragments(long amount)
{
	char *memory = touch(amount * MIB, MADV_NOHUGEPAGE, 4096);

	for (size_t at = 0; at < amount * MIB; at += 8192)
		madvise(memory + at, 4096, MADV_DONTNEED);
}

static void hold_locked(long amount)
{
	char *memory = touch(amount * MIB, MADV_NOHUGEPAGE, 4096);

	if (mlock(memory, amount * MIB))
		fail("mlock");
}

static void write_file(int fd, long amount)
{
	static char buffer[65536];

	memset(buffer, 7, sizeof(buffer));
	for (size_t done = 0; done < amount * MIB; done += sizeof(buffer))
		if (write(fd, buffer, sizeof(buffer)) < 0)
			fail("write");
}

static const char *path;

static void hold_file(long amount)
{
	int fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0644);

	if (fd < 0)
		fail(path);
	write_file(fd, amount);
}

static void hold_memfd(long amount)
{
	int fd = memfd_create("compare", 0);

	if (fd < 0 || ftruncate(fd, amount * (long)MIB))
		fail("memfd_create");
	if (mmap(NULL, amount * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0) ==
	    MAP_FAILED)
		fail("mmap");
}

static void fill(int fd)
{
	static char buffer[32768];

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (write(fd, buffer, sizeof(buffer)) > 0)
		;
}

static void hold_pipes(long amount)
{
	for (long nr = 0; nr < amount; nr++) {
		int ends[2];

		if (pipe(ends))
			fail("pipe");
		if (nr % 4 == 0)
			fcntl(ends[1], F_SETPIPE_SZ, MIB);
		fill(ends[1]);
	}
}

static void hold_sockets(long amount)
{
	for (long nr = 0; nr < amount; nr++) {
		int ends[2];

		if (socketpair(AF_UNIX, nr & 1 ? SOCK_STREAM : SOCK_DGRAM, 0, ends))
			fail("socketpair");
		fill(ends[1]);
	}
}

static void hold_tcp(long amount)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 64) ||
	    getsockname(listener, (struct sockaddr *)&address, &size))
		fail("listen");
	for (long nr = 0; nr < amount; nr++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(fd, (struct sockaddr *)&address, size) ||
		    accept(listener, NULL, NULL) < 0)
			fail("connect");
		fill(fd);
	}
}

static void *wait_in_thread(void *number)
{
	char name[32];

	snprintf(name, sizeof(name), "thread %ld", (long)number);
	prctl(PR_SET_NAME, name);
	touch(MIB, MADV_NOHUGEPAGE, 4096);
	pause();
	return NULL;
}

static void hold_threads(long amount)
{
	for (long nr = 0; nr < amount; nr++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, wait_in_thread, (void *)nr))
			fail("pthread_create");
	}
	sleep(1);
}

static void hold_forks(long amount)
{
	for (long nr = 0; nr < amount; nr++) {
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, 9);
			wait_in_thread((void *)(nr + 100));
		}
	}
	sleep(1);
}

/* Inodes and dentries: slab pages. */
static void hold_inodes(long amount)
{
	char name[256];

	mkdir(path, 0755);
	for (long nr = 0; nr < amount; nr++) {
		snprintf(name, sizeof(name), "%s/%ld", path, nr);
		close(open(name, O_CREAT | O_WRONLY, 0644));
	}
}

/* A large descriptor table is one block of a high order, which is split. */
static void hold_descriptors(long amount)
{
	struct rlimit limit = {.rlim_cur = 1000000, .rlim_max = 1000000};

	setrlimit(RLIMIT_NOFILE, &limit);
	if (dup2(0, (int)amount) < 0)
		fail("dup2");
}

static const struct {
	const char *name;
	void (*hold)(long amount);
} kinds[] = {
	{"anon", hold_anon},
	{"thp", hold_thp},
	{"fragments", hold_fragments},
	{"locked", hold_locked},
	{"file", hold_file},
	{"memfd", hold_memfd},
	{"pipes", hold_pipes},
	{"sockets", hold_sockets},
	{"tcp", hold_tcp},
	{"threads", hold_threads},
	{"forks", hold_forks},
	{"inodes", hold_inodes},
	{"descriptors", hold_descriptors},
};

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: compare_load KIND AMOUNT [PATH]\n");
		return 2;
	}
	path = argc > 3 ? argv[3] : "/tmp/compare_load";
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(argv[1], kinds[i].name))
			continue;
		kinds[i].hold(atol(argv[2]));
		puts("ready");
		fflush(stdout);
		for (;;)
			pause();
	}
	fprintf(stderr, "compare_load: unknown kind %s\n", argv[1]);
	return 2;
}
