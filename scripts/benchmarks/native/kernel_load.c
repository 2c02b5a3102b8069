/* SPDX-License-Identifier: MIT */
/*
 * kernel_load.c - make the kernel allocate and free pages for a while, and print the CPU time used.
 *
 *   kernel_load anon MIB SECONDS         map anonymous memory, touch each page, unmap it
 *   kernel_load tmpfs MIB SECONDS FILE   write a file on a tmpfs, truncate it
 *   kernel_load fork MIB SECONDS         fork a process that touches this much memory and exits
 *
 * Repeats this for SECONDS. Prints "pages N cpu_ns N": the number of pages touched or
 * written, and the user and system time of this process and its children.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE_BYTES 4096UL
#define WRITE_BYTES (64UL << 10)

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static long cpu_ns_of(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000L +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000L;
}

static long cpu_ns(void)
{
	return cpu_ns_of(RUSAGE_SELF) + cpu_ns_of(RUSAGE_CHILDREN);
}

static void touch_anonymous(size_t bytes)
{
	volatile char *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	madvise((void *)memory, bytes, MADV_NOHUGEPAGE); /* fails in kernels without huge pages */
	for (size_t at = 0; at < bytes; at += PAGE_BYTES)
		memory[at] = 1;
	munmap((void *)memory, bytes);
}

static void write_and_truncate(int fd, size_t bytes)
{
	static char buffer[WRITE_BYTES];

	for (size_t at = 0; at < bytes; at += sizeof(buffer))
		if (pwrite(fd, buffer, sizeof(buffer), (off_t)at) != (ssize_t)sizeof(buffer))
			die("write");
	if (ftruncate(fd, 0))
		die("ftruncate");
}

static void fork_and_touch(size_t bytes)
{
	int status;
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (!child) {
		touch_anonymous(bytes);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		die("a child");
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int is_tmpfs = !strcmp(what, "tmpfs"), fd = -1;
	long pages = 0, start_ns;
	size_t bytes;
	double until;

	if (argc != 4 + is_tmpfs || (!is_tmpfs && strcmp(what, "anon") && strcmp(what, "fork"))) {
		fprintf(stderr, "usage: kernel_load anon|tmpfs|fork MIB SECONDS [FILE]\n");
		return 2;
	}
	bytes = strtoul(argv[2], NULL, 10) << 20;
	if (is_tmpfs) {
		fd = open(argv[4], O_RDWR | O_CREAT | O_TRUNC, 0600);
		if (fd < 0)
			die(argv[4]);
	}
	start_ns = cpu_ns();
	until = now() + strtod(argv[3], NULL);
	do {
		if (is_tmpfs)
			write_and_truncate(fd, bytes);
		else if (*what == 'a')
			touch_anonymous(bytes);
		else
			fork_and_touch(bytes);
		pages += (long)(bytes / PAGE_BYTES);
	} while (now() < until);
	printf("pages %ld cpu_ns %ld\n", pages, cpu_ns() - start_ns);
	if (is_tmpfs)
		unlink(argv[4]);
	return 0;
}
