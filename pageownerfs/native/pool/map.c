// SPDX-License-Identifier: MIT
/*
 * map.c - the shared-memory file: its mapping, and the memory that backs it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/map.h"

int pool_commit(struct pool *pool, u64 offset, u64 bytes)
{
	int error;

	do {
		error = fallocate(pool->fd, 0, (off_t)offset, (off_t)bytes) ? errno : 0;
	} while (error == EINTR);
	return -error;
}

int pool_decommit(struct pool *pool, u64 offset, u64 bytes)
{
	return fallocate(pool->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			 (off_t)bytes)
		       ? -errno
		       : 0;
}

int pool_map(struct pool *pool)
{
	pool->base = mmap(NULL, pool->file_bytes, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_NORESERVE, pool->fd, 0);
	if (pool->base == MAP_FAILED) {
		pool->base = NULL;
		return -errno;
	}
	pool->header = (struct pool_header *)pool->base;
	return 0;
}

int pool_open(struct pool *pool, const char *path)
{
	struct pool_header header;
	struct stat st;
	int error;

	memset(pool, 0, sizeof(*pool));
	pool->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (pool->fd < 0)
		return -errno;
	error = fstat(pool->fd, &st) ? -errno : 0;
	if (!error && (!S_ISREG(st.st_mode) ||
		       pread(pool->fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header)))
		error = -EMEDIUMTYPE;
	error = error ? error : pool_check_header(&header, (u64)st.st_size);
	if (!error) {
		pool->file_bytes = header.file_bytes;
		error = pool_map(pool);
	}
	/* Check again what is mapped now, because that is what gets copied. */
	error = error ? error : pool_check_header(pool->header, pool->file_bytes);
	if (error) {
		pool_unmap(pool);
		return error;
	}
	pool_adopt(pool);
	return 0;
}

void pool_unmap(struct pool *pool)
{
	if (pool->base)
		munmap(pool->base, pool->file_bytes);
	if (pool->fd >= 0)
		close(pool->fd);
	pool->base = NULL;
	pool->fd = -1;
}
