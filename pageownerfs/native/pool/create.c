// SPDX-License-Identifier: MIT
/*
 * create.c - creating a pool.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "pool/create.h"
#include "pool/lock.h"
#include "pool/map.h"
#include "pool/mm_init.h"

static int pool_init_header(struct pool *pool, const struct pool_header *layout)
{
	struct pool_header *header = pool->header;
	int error;

	*header = *layout;
	header->abi_version = POOL_ABI_VERSION;
	header->header_bytes = sizeof(struct pool_header);
	header->page_bytes = sizeof(struct page);
	header->client_bytes = sizeof(struct pool_client);
	header->page_owner_bytes = sizeof(struct page_owner);
	header->created_nsec = ktime_get_ns();
	error = pool_mutex_init(&header->clients_lock);
	error = error ? error : pool_mutex_init(&header->freeze_lock);
	error = error ? error : pool_mutex_init(&header->depot_lock);
	for (int zone = 0; zone < MAX_NR_ZONES && !error; zone++)
		error = pool_mutex_init(&header->zones[zone].lock);
	return -error;
}

int pool_create(struct pool *pool, const char *path, const struct pool_config *config)
{
	struct pool_header layout = {0};
	struct flock lock = {.l_type = F_WRLCK, .l_start = POOL_DAEMON_BYTE, .l_len = 1};
	int error;

	memset(pool, 0, sizeof(*pool));
	pool_layout(&layout, config);
	pool->file_bytes = layout.file_bytes;
	pool->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (pool->fd < 0)
		return -errno;
	error = fcntl(pool->fd, F_OFD_SETLK, &lock) ? -errno : 0;
	if (!error && ftruncate(pool->fd, (off_t)layout.file_bytes))
		error = -errno;
	error = error ? error : pool_commit(pool, 0, PAGE_SIZE);
	error = error ? error
		      : pool_commit(pool, layout.mem_map_offset,
				    layout.clients_offset - layout.mem_map_offset);
	error = error ? error : pool_map(pool);
	error = error ? error : pool_init_header(pool, &layout);
	if (!error) {
		pool_adopt(pool);
		error = free_area_init(pool, config);
		pool_adopt(pool); /* again: the sizes of the order-0 lists are known only now */
	}
	if (error) {
		unlink(path);
		pool_unmap(pool);
		return error;
	}
	/* Written last, so that a file with the magic is a complete pool. */
	atomic_thread_fence(memory_order_release);
	pool->header->magic = POOL_MAGIC;
	return 0;
}
