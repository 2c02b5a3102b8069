// SPDX-License-Identifier: MIT
/*
 * fork.c - what fork() must change in the child.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "pool/fork.h"
#include "pool/page_owner.h"

static struct pool *all_pools;
static pthread_mutex_t all_pools_lock = PTHREAD_MUTEX_INITIALIZER;

static void fork_prepare(void)
{
	pthread_mutex_lock(&all_pools_lock);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&all_pools_lock);
}

/*
 * The child becomes a client of its own, because the slot and its lists are the parent's. It also
 * needs its own open file description: OFD locks belong to that, and fork() shares it.
 */
static void fork_child(void)
{
	for (struct pool *pool = all_pools; pool; pool = pool->next) {
		char path[] = "/proc/self/fd/0123456789";
		char *end = path + 14;
		char digits[10];
		int nr = 0, fd = pool->fd;

		do
			digits[nr++] = (char)('0' + fd % 10);
		while (fd /= 10);
		while (nr)
			*end++ = digits[--nr];
		*end = 0;
		fd = open(path, O_RDWR | O_CLOEXEC);
		close(pool->fd);
		pool->fd = fd; /* if this is -1, registering fails with an error */
		pool->client = NULL;
	}
	pthread_mutex_unlock(&all_pools_lock);
	page_owner_forked();
}

static void pool_atfork(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

void pool_link(struct pool *pool)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, pool_atfork);
	pthread_mutex_lock(&all_pools_lock);
	pool->next = all_pools;
	all_pools = pool;
	pthread_mutex_unlock(&all_pools_lock);
}

void pool_unlink(struct pool *pool)
{
	struct pool **link;

	pthread_mutex_lock(&all_pools_lock);
	for (link = &all_pools; *link; link = &(*link)->next)
		if (*link == pool) {
			*link = pool->next;
			break;
		}
	pthread_mutex_unlock(&all_pools_lock);
}
