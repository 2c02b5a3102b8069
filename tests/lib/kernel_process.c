// SPDX-License-Identifier: MIT
/*
 * kernel_process.c - a process that allocates pages on command: one command per line, answered by
 * one line.
 *
 * Addresses are hexadecimal, and amounts are in pages. kernel_process.py drives it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define HUGE (512 * PAGE)
#define MAX_THREADS 64

static void check(int wrong, const char *what)
{
	if (wrong) {
		perror(what);
		exit(1);
	}
}

/* Three frames that user stacks must show. */
static unsigned long touch_innermost(volatile char *page, unsigned long nr)
{
	for (unsigned long i = 0; i < nr; i++)
		page[i * PAGE] = 1;
	return nr;
}

static unsigned long touch_middle(volatile char *page, unsigned long nr)
{
	return touch_innermost(page, nr) + 1;
}

static unsigned long touch(volatile char *page, unsigned long nr)
{
	return touch_middle(page, nr) + 1;
}

static char *map(unsigned long nr, int flags, int advice)
{
	char *start = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	check(start == MAP_FAILED, "mmap");
	if (advice)
		/* fails without transparent huge pages, when it is not needed */
		madvise(start, nr * PAGE, advice);
	return start;
}

static char *anon(unsigned long nr)
{
	char *start = map(nr, MAP_PRIVATE, MADV_NOHUGEPAGE);

	touch(start, nr);
	return start;
}

static char *huge(unsigned long nr)
{
	char *start = map(nr + 512, MAP_PRIVATE, 0);

	start = (char *)(((uintptr_t)start + HUGE - 1) & ~(HUGE - 1));
	check(madvise(start, nr * PAGE, MADV_HUGEPAGE) != 0, "MADV_HUGEPAGE");
	touch(start, nr);
	return start;
}

/* Write a file of nr pages, then map all of it. */
static char *file(const char *path, unsigned long nr)
{
	static const char page[PAGE] = {1};
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	volatile char *start;
	char sum = 0;

	check(fd < 0, path);
	for (unsigned long i = 0; i < nr; i++)
		check(write(fd, page, PAGE) != (ssize_t)PAGE, "write");
	start = mmap(NULL, nr * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	check(start == MAP_FAILED, "mmap");
	for (unsigned long i = 0; i < nr; i++)
		sum += start[i * PAGE];
	close(fd);
	return (char *)start + (sum & 0);
}

/*
 * Run processes one after the other, each with its own name and its own pages of a shared mapping.
 */
static void children(unsigned long count, unsigned long nr)
{
	char *start = map(count * nr, MAP_SHARED, 0);

	printf("%lx", (unsigned long)start);
	fflush(stdout);
	for (unsigned long i = 0; i < count; i++) {
		pid_t pid = fork();

		check(pid < 0, "fork");
		if (pid == 0) {
			char name[40];

			snprintf(name, sizeof(name), "short-%lu", i);
			prctl(PR_SET_NAME, name);
			touch(start + i * nr * PAGE, nr);
			prctl(PR_SET_NAME, "later");
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		printf(" %d", pid);
	}
	touch(start, count * nr); /* maps them here, too, so that pagemap shows where they are */
}

/* Fork a child that writes to inherited pages and stays alive. */
static pid_t copy(char *start, unsigned long nr)
{
	int done[2];
	pid_t pid;
	char byte;

	check(pipe(done) != 0, "pipe");
	pid = fork();
	check(pid < 0, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(done[0]);
		touch(start, nr);
		check(write(done[1], "", 1) != 1, "write");
		for (;;)
			pause();
	}
	close(done[1]);
	check(read(done[0], &byte, 1) != 1, "child");
	close(done[0]);
	return pid;
}

struct thread {
	unsigned long number, nr;
	char *start;
	pid_t tid;
};

static pthread_barrier_t barrier;

static void *thread_main(void *arg)
{
	struct thread *thread = arg;
	char name[40];

	snprintf(name, sizeof(name), "thread (%lu)", thread->number);
	prctl(PR_SET_NAME, name);
	thread->tid = (pid_t)syscall(SYS_gettid);
	thread->start = anon(thread->nr);
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void threads(unsigned long count, unsigned long nr)
{
	static struct thread thread[MAX_THREADS];
	pthread_t ids[MAX_THREADS];

	check(count > MAX_THREADS, "too many threads");
	pthread_barrier_init(&barrier, NULL, (unsigned int)count);
	for (unsigned long i = 0; i < count; i++) {
		thread[i] = (struct thread){.number = i, .nr = nr};
		check(pthread_create(&ids[i], NULL, thread_main, &thread[i]) != 0,
		      "pthread_create");
	}
	for (unsigned long i = 0; i < count; i++)
		pthread_join(ids[i], NULL);
	for (unsigned long i = 0; i < count; i++)
		printf(" %d %lx", thread[i].tid, (unsigned long)thread[i].start);
}

/* Set the name of this thread, which may have any bytes: given in hexadecimal, "-" for none. */
static void set_name(const char *hex)
{
	char name[16] = "";
	unsigned int byte;

	for (int i = 0; i < 15 && sscanf(hex + 2 * i, "%2x", &byte) == 1; i++)
		name[i] = (char)byte;
	check(prctl(PR_SET_NAME, name) != 0, "PR_SET_NAME");
}

static void run(const char *verb, const char *word, unsigned long a, unsigned long b)
{
	if (!strcmp(verb, "name"))
		set_name(word);
	else if (!strcmp(verb, "anon"))
		printf("%lx", (unsigned long)anon(a));
	else if (!strcmp(verb, "huge"))
		printf("%lx", (unsigned long)huge(a));
	else if (!strcmp(verb, "shared"))
		printf("%lx", (unsigned long)map(a, MAP_SHARED, 0));
	else if (!strcmp(verb, "file"))
		printf("%lx", (unsigned long)file(word, a));
	else if (!strcmp(verb, "truncate"))
		check(truncate(word, (off_t)(a * PAGE)) != 0, "truncate");
	else if (!strcmp(verb, "touch"))
		printf("%lu", touch((char *)a, b));
	else if (!strcmp(verb, "unmap"))
		check(munmap((char *)a, b * PAGE) != 0, "munmap");
	else if (!strcmp(verb, "drop"))
		check(madvise((char *)a, b * PAGE, MADV_DONTNEED) != 0, "MADV_DONTNEED");
	else if (!strcmp(verb, "drop-odd"))
		for (unsigned long i = 1; i < b; i += 2)
			check(madvise((char *)a + i * PAGE, PAGE, MADV_DONTNEED) != 0,
			      "MADV_DONTNEED");
	/* for a part of a huge page: the kernel splits it at once */
	else if (!strcmp(verb, "lazyfree"))
		check(madvise((char *)a, b * PAGE, MADV_FREE) != 0, "MADV_FREE");
	else if (!strcmp(verb, "children"))
		children(a, b);
	else if (!strcmp(verb, "copy"))
		printf("%d", copy((char *)a, b));
	else if (!strcmp(verb, "threads"))
		threads(a, b);
	else
		exit(2);
}

int main(void)
{
	char line[512], verb[16], word[400];

	while (fgets(line, sizeof(line), stdin)) {
		unsigned long a = 0, b = 0;

		if (sscanf(line, "%15s %399s %lx %lx", verb, word, &a, &b) < 2)
			return 2;
		run(verb, word, a, b);
		putchar('\n');
		fflush(stdout);
	}
	return 0;
}
