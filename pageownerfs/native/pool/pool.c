// SPDX-License-Identifier: MIT
/*
 * pool.c - the shared-memory file: its layout, its memory, its mapping.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/pool.h"

#define ROUND_UP(x, to) (((x) + (to) - 1) / (to) * (to))
#define LOCK_SPINS 200
#define LOCK_TIMEOUT_NSEC 10000000000ULL
#define LOCK_SLICE_NSEC 20000000

int pool_mutex_init(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;
	int error;

	error = pthread_mutexattr_init(&attr);
	if (error)
		return error;
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	error = pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return error;
}

/*
 * Does this look like one of our mutexes? Of one that somebody has written over, libc would believe
 * whatever it says and abort.
 */
static bool mutex_ok(const pthread_mutex_t *mutex)
{
#ifdef __GLIBC__
	static _Atomic int kind = -1;
	pthread_mutex_t reference;

	if (unlikely(atomic_load_explicit(&kind, memory_order_relaxed) < 0)) {
		if (pool_mutex_init(&reference))
			return true;
		atomic_store(&kind, reference.__data.__kind);
		pthread_mutex_destroy(&reference);
	}
	return mutex->__data.__kind == atomic_load_explicit(&kind, memory_order_relaxed);
#else
	return mutex != NULL;
#endif
}

/*
 * Never sleep for long at once: a wakeup is lost if who is woken gets killed before it has the
 * lock, while another takes it in passing.
 */
static int lock_in_slices(pthread_mutex_t *mutex)
{
	u64 end = ktime_get_ns() + LOCK_TIMEOUT_NSEC;
	int error;

	do {
		u64 until = ktime_get_ns() + LOCK_SLICE_NSEC;
		struct timespec ts = {.tv_sec = (time_t)(until / 1000000000),
				      .tv_nsec = (long)(until % 1000000000)};

		error = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &ts);
	} while (error == ETIMEDOUT && ktime_get_ns() < end);
	return error;
}

/*
 * 0, EOWNERDEAD (locked and made consistent; the caller mends what it guards), or EBUSY: the holder
 * is alive but does not go on (stopped by a debugger, say), or the mutex is not a mutex any more.
 */
int pool_mutex_lock(pthread_mutex_t *mutex)
{
	int error;

	if (unlikely(!mutex_ok(mutex)))
		return EBUSY;
	error = pthread_mutex_trylock(mutex);
	for (int spin = 0; error == EBUSY && spin < LOCK_SPINS; spin++) {
#if defined(__x86_64__)
		__builtin_ia32_pause();
#endif
		error = pthread_mutex_trylock(mutex);
	}
	if (error == EBUSY)
		error = lock_in_slices(mutex);
	if (error == EOWNERDEAD) {
		pthread_mutex_consistent(mutex);
		return EOWNERDEAD;
	}
	return error ? EBUSY : 0;
}

/* Give memory to a range of the file. -ENOSPC when /dev/shm is full, -ENOMEM at a memory limit. */
int pool_commit(struct pool *pool, u64 offset, u64 bytes)
{
	int error;

	do {
		error = fallocate(pool->fd, 0, (off_t)offset, (off_t)bytes) ? errno : 0;
	} while (error == EINTR);
	return -error;
}

/*
 * Give a range's memory back to the system; it reads as zeroes then, and must be committed again.
 */
int pool_decommit(struct pool *pool, u64 offset, u64 bytes)
{
	return fallocate(pool->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			 (off_t)bytes)
		       ? -errno
		       : 0;
}

static int pool_map(struct pool *pool)
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

/* Copy what the pool is out of its header; the header has been checked. */
static void pool_adopt(struct pool *pool)
{
	const struct pool_header *header = pool->header;

	pool->nr_pages = header->nr_pages;
	pool->nr_pageblocks = (pool->nr_pages + PAGEBLOCK_NR_PAGES - 1) >> PAGEBLOCK_ORDER;
	pool->mem_map = (struct page *)(pool->base + header->mem_map_offset);
	pool->pageblock_flags = (u8 *)(pool->base + header->pageblock_offset);
	pool->clients = (struct pool_client *)(pool->base + header->clients_offset);
	pool->page_ext_pfn = header->page_ext_pfn;
	pool->nr_page_ext_pages = header->nr_page_ext_pages;
	pool->page_ext = page_address(pool, header->page_ext_pfn);
	pool->stack_depth = header->stack_depth;
	pool->mobility_disabled = header->page_group_by_mobility_disabled;
	pool->depot_hash = (u32 *)(pool->base + header->depot_offset);
	pool->depot = pool->base + header->depot_offset + DEPOT_HASH_BYTES;
	pool->depot_bytes = header->depot_bytes;
	for (int zone = 0; zone < MAX_NR_ZONES; zone++) {
		pool->zone_span[zone].start_pfn = header->zones[zone].start_pfn;
		pool->zone_span[zone].end_pfn = header->zones[zone].end_pfn;
		pool->pcp_batch[zone] = header->zones[zone].pcp_batch;
		pool->pcp_high[zone] = header->zones[zone].pcp_high;
		if (pool->pcp_high[zone] > PCP_HIGH_MAX)
			pool->pcp_high[zone] = PCP_HIGH_MAX;
		pool->first_zone[zone] = (u8)zone;
		if (header->zones[zone].start_pfn == header->zones[zone].end_pfn && zone > 0)
			pool->first_zone[zone] = pool->first_zone[zone - 1];
	}
}

/* Lay the file out: see pool.h. */
static void pool_layout(struct pool_header *header, const struct pool_config *config)
{
	u32 low = (u32)((config->size - config->movablecore) >> PAGE_SHIFT);
	u32 movable = (u32)(config->movablecore >> PAGE_SHIFT);
	u32 nr_ext = 0, low_end, movable_start, nr_pages;
	u64 offset;

	for (;;) { /* page_ext describes its own pages too */
		low_end = 1 + low + nr_ext;
		movable_start = movable ? ROUND_UP(low_end, MAX_ORDER_NR_PAGES) : low_end;
		nr_pages = movable_start + movable;
		u32 need = (u32)(((u64)nr_pages * sizeof(struct page_owner) + PAGE_SIZE - 1) >>
				 PAGE_SHIFT);

		if (need <= nr_ext)
			break;
		nr_ext = need;
	}
	header->nr_pages = nr_pages;
	header->page_ext_pfn = 1 + low;
	header->nr_page_ext_pages = nr_ext;
	header->zones[ZONE_DMA].start_pfn = 1;
	header->zones[ZONE_DMA].end_pfn = low_end < DMA_END_PFN ? low_end : DMA_END_PFN;
	header->zones[ZONE_NORMAL].start_pfn = header->zones[ZONE_DMA].end_pfn;
	header->zones[ZONE_NORMAL].end_pfn = low_end;
	header->zones[ZONE_MOVABLE].start_pfn = movable_start;
	header->zones[ZONE_MOVABLE].end_pfn = nr_pages;

	offset = (u64)nr_pages << PAGE_SHIFT;
	header->mem_map_offset = offset;
	offset += ROUND_UP((u64)nr_pages * sizeof(struct page), PAGE_SIZE);
	header->pageblock_offset = offset;
	offset += ROUND_UP(((u64)nr_pages >> PAGEBLOCK_ORDER) + 1, PAGE_SIZE);
	header->clients_offset = offset;
	offset += ROUND_UP(sizeof(struct pool_client) * NR_CLIENTS, PAGE_SIZE);
	header->depot_offset = offset;
	header->depot_bytes = ROUND_UP(config->stack_depot_bytes, PAGE_SIZE);
	offset += DEPOT_HASH_BYTES + header->depot_bytes;
	header->file_bytes = offset;
	header->stack_depth = config->stack_depth;
	header->page_group_by_mobility_disabled =
		low + movable < PAGEBLOCK_NR_PAGES * MIGRATE_TYPES;
}

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

/*
 * Make a pool at path, which must not exist. Holds the daemon's lock on it for as long as pool
 * lives.
 */
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
		pool_adopt(pool); /* the sizes of the order-0 lists are known now */
	}
	if (error) {
		unlink(path);
		pool_unmap(pool);
		return error;
	}
	/* Written last: whoever finds the magic finds a whole pool. */
	atomic_thread_fence(memory_order_release);
	pool->header->magic = POOL_MAGIC;
	return 0;
}

static bool region_ok(const struct pool_header *h, u64 offset, u64 bytes)
{
	return offset % PAGE_SIZE == 0 && offset <= h->file_bytes &&
	       bytes <= h->file_bytes - offset;
}

/* Is this a pool, of this version, whose every region lies in the file? */
static int pool_check_header(const struct pool_header *h, u64 file_bytes)
{
	if (h->magic != POOL_MAGIC)
		return -EMEDIUMTYPE;
	if (h->abi_version != POOL_ABI_VERSION || h->header_bytes != sizeof(struct pool_header) ||
	    h->page_bytes != sizeof(struct page) || h->client_bytes != sizeof(struct pool_client) ||
	    h->page_owner_bytes != sizeof(struct page_owner))
		return -EPROTO;
	if (h->file_bytes != file_bytes || h->nr_pages == 0 || h->nr_pages > MAX_NR_PAGES ||
	    h->stack_depth < 1 || h->stack_depth > MAX_STACK_DEPTH ||
	    h->page_ext_pfn >= h->nr_pages ||
	    h->nr_page_ext_pages > h->nr_pages - h->page_ext_pfn ||
	    (u64)h->nr_page_ext_pages * PAGE_SIZE < (u64)h->nr_pages * sizeof(struct page_owner) ||
	    h->mem_map_offset < (u64)h->nr_pages << PAGE_SHIFT)
		return -EUCLEAN;
	if (!region_ok(h, h->mem_map_offset, (u64)h->nr_pages * sizeof(struct page)) ||
	    !region_ok(h, h->pageblock_offset, (h->nr_pages >> PAGEBLOCK_ORDER) + 1) ||
	    !region_ok(h, h->clients_offset, sizeof(struct pool_client) * NR_CLIENTS) ||
	    h->depot_bytes > h->file_bytes ||
	    !region_ok(h, h->depot_offset, DEPOT_HASH_BYTES + h->depot_bytes))
		return -EUCLEAN;
	for (int zone = 0; zone < MAX_NR_ZONES; zone++)
		if (h->zones[zone].start_pfn > h->zones[zone].end_pfn ||
		    h->zones[zone].start_pfn == 0 || h->zones[zone].end_pfn > h->nr_pages)
			return -EUCLEAN;
	return 0;
}

/*
 * Map an existing pool. -EMEDIUMTYPE: no pool; -EPROTO: a pool of another version; -EUCLEAN: its
 * header contradicts itself.
 */
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
	/* Again, on what is mapped now: that is what gets copied. */
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
