// SPDX-License-Identifier: MIT
/*
 * stack_depot.c - each call stack is stored once, for all clients of a pool.
 *
 * Mirrors lib/stackdepot.c: identical traces get one handle, which stays valid for the life of the
 * pool. Strings and frames are interned the same way: a stack consists of the handles of its
 * frames, and a frame of the handles of its strings. Objects never change or move once a bucket
 * leads to them. So lookups need no lock, and a process that dies while it adds one leaves a gap at
 * worst.
 */
#include "pool/layout.h"

#if CONFIG_PAGE_OWNER
#include <errno.h>
#include <string.h>

#include "pool/client.h"
#include "pool/lock.h"
#include "pool/map.h"
#include "pool/stack_depot.h"

#define DEPOT_ALIGN 16
#define DEPOT_CHUNK (1UL << 20)
#define DEPOT_MAX_CHAIN (1U << 20) /* longer means corruption */

struct depot_object {
	u32 hash;
	u32 next;  /* handle of the next object in the bucket */
	u32 bytes; /* of data */
	u32 kind;
	char data[];
};

/* Follows the data of a stack, like struct stack_record.count in the kernel. */
struct depot_count {
	_Atomic long long nr_base_pages;
	/* 1-based rank by first allocation; 0 if it was only used as a free stack */
	_Atomic u32 listed;
	u32 padding;
};

static u32 depot_hash(enum depot_kind kind, const void *data, u32 bytes)
{
	const unsigned char *p = data;
	u64 hash = 0x9e3779b97f4a7c15ULL * (kind + 1) ^ bytes;

	for (; bytes >= 8; p += 8, bytes -= 8) {
		u64 word;

		memcpy(&word, p, 8);
		hash = (hash ^ word) * 0xff51afd7ed558ccdULL;
		hash ^= hash >> 32;
	}
	for (; bytes; p++, bytes--)
		hash = (hash ^ *p) * 0xff51afd7ed558ccdULL;
	return (u32)(hash ^ hash >> 32);
}

static u64 handle_offset(u32 handle)
{
	return (u64)handle * DEPOT_ALIGN;
}

/* The object of a handle; NULL if the handle cannot be valid. */
static struct depot_object *depot_object(const struct pool *pool, u32 handle)
{
	u64 used = atomic_load_explicit(&pool->header->depot_used, memory_order_acquire);
	struct depot_object *object = (struct depot_object *)(pool->depot + handle_offset(handle));

	if (used > pool->depot_bytes)
		used = pool->depot_bytes;
	if (handle == 0 || handle_offset(handle) + sizeof(*object) > used ||
	    object->bytes > used - handle_offset(handle) - sizeof(*object))
		return NULL;
	return object;
}

static u64 data_bytes(enum depot_kind kind, u32 bytes)
{
	return kind == DEPOT_STACK ? ((bytes + 7ULL) & ~7ULL) + sizeof(struct depot_count) : bytes;
}

static u64 object_bytes(enum depot_kind kind, u32 bytes)
{
	return (sizeof(struct depot_object) + data_bytes(kind, bytes) + DEPOT_ALIGN - 1) /
	       DEPOT_ALIGN * DEPOT_ALIGN;
}

/* The count of a stack; NULL if the handle is not that of a stack. */
static struct depot_count *depot_count(const struct pool *pool, u32 handle)
{
	struct depot_object *object = depot_object(pool, handle);

	if (!object || object->kind != DEPOT_STACK ||
	    handle_offset(handle) + object_bytes(DEPOT_STACK, object->bytes) > pool->depot_bytes)
		return NULL;
	return (struct depot_count *)(object->data + ((object->bytes + 7ULL) & ~7ULL));
}

static void list_stack(const struct pool *pool, struct depot_count *count)
{
	u32 none = 0;

	if (!atomic_load_explicit(&count->listed, memory_order_relaxed))
		atomic_compare_exchange_strong(
			&count->listed, &none,
			atomic_fetch_add(&pool->header->nr_listed_stacks, 1) + 1);
}

static void add_to_depot(const struct pool *pool, u32 handle, int nr_base_pages)
{
	struct depot_count *count = depot_count(pool, handle);

	if (!count)
		return;
	list_stack(pool, count);
	if (nr_base_pages)
		atomic_fetch_add_explicit(&count->nr_base_pages, nr_base_pages,
					  memory_order_relaxed);
}

void depot_set_pages(const struct pool *pool, u32 handle, long long nr_base_pages)
{
	struct depot_count *count = depot_count(pool, handle);

	if (count)
		atomic_store(&count->nr_base_pages, nr_base_pages);
}

void depot_add_pages(struct pool *pool, u32 handle, int nr_base_pages)
{
	_Atomic u64 *slot;
	u64 word;

	if (!pool->client) {
		add_to_depot(pool, handle, nr_base_pages);
		return;
	}
	slot = &pool->client->stack_pages[stack_pages_slot(handle)];
	word = atomic_load_explicit(slot, memory_order_relaxed);
	if (unlikely(word >> 32 != handle)) {
		add_to_depot(pool, (u32)(word >> 32), (int)(u32)word);
		add_to_depot(pool, handle, 0); /* lists the stack from now on */
		word = 0;
	}
	atomic_store_explicit(slot, (u64)handle << 32 | (u32)((int)(u32)word + nr_base_pages),
			      memory_order_relaxed);
}

void depot_flush_pages(struct pool *pool, unsigned int slot)
{
	for (int i = 0; i < STACK_PAGES_SLOTS; i++) {
		u64 word = atomic_exchange(&pool->clients[slot].stack_pages[i], 0);

		if (word >> 32)
			add_to_depot(pool, (u32)(word >> 32), (int)(u32)word);
	}
}

/* Pages of a stack that clients have counted but not yet added to the depot. */
static long long depot_unflushed_pages(const struct pool *pool, u32 handle)
{
	long long nr = 0;

	for (u32 slot = 0; slot < pool_nr_clients(pool); slot++) {
		u64 word = atomic_load_explicit(
			&pool->clients[slot].stack_pages[stack_pages_slot(handle)],
			memory_order_relaxed);

		if (word >> 32 == handle)
			nr += (int)(u32)word;
	}
	return nr;
}

u32 depot_next_stack(const struct pool *pool, u32 handle, struct stack_record *stack)
{
	const struct depot_object *object;

	for (handle = handle ? handle : 1; (object = depot_object(pool, handle));
	     handle += (u32)(object_bytes(object->kind, object->bytes) / DEPOT_ALIGN)) {
		struct depot_count *count =
			object->kind == DEPOT_STACK ? depot_count(pool, handle) : NULL;

		if (count && atomic_load(&count->listed)) {
			*stack = (struct stack_record){.handle = handle,
						       .listed = atomic_load(&count->listed),
						       .nr_base_pages =
							       atomic_load(&count->nr_base_pages) +
							       depot_unflushed_pages(pool, handle)};
			return handle;
		}
	}
	return 0;
}

u32 depot_after(const struct pool *pool, u32 handle)
{
	const struct depot_object *object = depot_object(pool, handle);

	return object ? handle + (u32)(object_bytes(object->kind, object->bytes) / DEPOT_ALIGN)
		      : handle + 1;
}

static u32 depot_find(const struct pool *pool, u32 hash, enum depot_kind kind, const void *data,
		      u32 bytes)
{
	const u32 *bucket = &pool->depot_hash[hash & ((1U << DEPOT_HASH_ORDER) - 1)];
	u32 handle = atomic_load_explicit((const _Atomic u32 *)bucket, memory_order_acquire);

	for (u32 nr = 0; handle && nr < DEPOT_MAX_CHAIN; nr++) {
		const struct depot_object *object = depot_object(pool, handle);

		if (!object)
			return 0;
		if (object->hash == hash && object->kind == kind && object->bytes == bytes &&
		    memcmp(object->data, data, bytes) == 0)
			return handle;
		handle = object->next;
	}
	return 0;
}

/* The offset of free room for this many bytes; 0 if there is none. depot_lock held. */
static u64 depot_room(struct pool *pool, u64 bytes)
{
	struct pool_header *header = pool->header;
	u64 used = atomic_load(&header->depot_used),
	    committed = atomic_load(&header->depot_committed);

	if (used % DEPOT_ALIGN || used > pool->depot_bytes || bytes > pool->depot_bytes - used)
		return 0;
	while (used + bytes > committed) {
		u64 chunk = pool->depot_bytes - committed < DEPOT_CHUNK
				    ? pool->depot_bytes - committed
				    : DEPOT_CHUNK;

		if (committed >= pool->depot_bytes ||
		    pool_commit(pool, (u64)(pool->depot - pool->base) + committed, chunk))
			return 0;
		committed += chunk;
		atomic_store(&header->depot_committed, committed);
	}
	return used;
}

static u32 depot_add(struct pool *pool, u32 hash, enum depot_kind kind, const void *data, u32 bytes)
{
	_Atomic u32 *bucket =
		(_Atomic u32 *)&pool->depot_hash[hash & ((1U << DEPOT_HASH_ORDER) - 1)];
	u64 size = object_bytes(kind, bytes);
	u64 offset = depot_room(pool, size);
	struct depot_object *object = (struct depot_object *)(pool->depot + offset);

	if (!offset)
		return 0;
	*object = (struct depot_object){
		.hash = hash, .next = atomic_load(bucket), .bytes = bytes, .kind = kind};
	memcpy(object->data, data, bytes);
	memset(object->data + bytes, 0, data_bytes(kind, bytes) - bytes);
	atomic_store(&pool->header->depot_used, offset + size);
	atomic_store_explicit(bucket, (u32)(offset / DEPOT_ALIGN), memory_order_release);
	if (kind == DEPOT_STACK)
		stat_inc(pool, stack_depot_stacks);
	return (u32)(offset / DEPOT_ALIGN);
}

int depot_intern(struct pool *pool, enum depot_kind kind, const void *data, u32 bytes, u64 nsec,
		 u32 *handle)
{
	u32 hash = depot_hash(kind, data, bytes);
	int error;

	*handle = depot_find(pool, hash, kind, data, bytes);
	if (*handle)
		return 0;
	error = pool_mutex_lock(&pool->header->depot_lock, nsec);
	if (error < 0)
		return error;
	*handle = depot_find(pool, hash, kind, data, bytes);
	if (!*handle)
		*handle = depot_add(pool, hash, kind, data, bytes);
	pthread_mutex_unlock(&pool->header->depot_lock);
	return *handle ? 0 : -ENOSPC;
}

const void *depot_fetch(const struct pool *pool, u32 handle, enum depot_kind kind, u32 *bytes)
{
	const struct depot_object *object;

	if (!atomic_load(&pool->header->depot_ready))
		return NULL;
	object = depot_object(pool, handle);
	if (!object || object->kind != kind)
		return NULL;
	*bytes = object->bytes;
	return object->data;
}

int depot_init(struct pool *pool)
{
	u64 start = pool->header->depot_offset;
	u64 first = pool->depot_bytes < DEPOT_CHUNK ? pool->depot_bytes : DEPOT_CHUNK;
	int error;

	if (atomic_load(&pool->header->depot_ready))
		return 0;
	error = pool_commit(pool, start, DEPOT_HASH_BYTES + first);
	if (error)
		return error;
	atomic_store(&pool->header->depot_committed, first);
	atomic_store(&pool->header->depot_used, DEPOT_ALIGN); /* because handle 0 means none */
	atomic_store(&pool->header->depot_ready, 1);
	return 0;
}

void depot_drop(struct pool *pool)
{
	atomic_store(&pool->header->depot_ready, 0);
	pool_decommit(pool, pool->header->depot_offset, DEPOT_HASH_BYTES + pool->depot_bytes);
	atomic_store(&pool->header->depot_committed, 0);
	atomic_store(&pool->header->depot_used, 0);
	atomic_store(&pool->header->stats.stack_depot_stacks, 0);
	atomic_store(&pool->header->stats.stack_depot_failed, 0);
}
#endif
