// SPDX-License-Identifier: MIT
/*
 * pystack.c - the Python call stack of the calling thread, as a handle of the stack depot.
 *
 * Mirrors save_stack() of mm/page_owner.c. A frame is identified by its code object and the offset
 * of its current instruction, so a stack seen before costs a walk, a hash and a compare. Only new
 * frames are named (function, module, file, line) and interned in the depot.
 */
#include "pool/lock.h"
#include "pool/stack_depot.h"
#include "python/pystack.h"
#include "python/stacktrace.h"

#define FRAME_CACHE_MAX (1U << 20) /* frames; beyond that, forget everything and start again */
#define STACK_CACHE_SETS 2048
#define STACK_CACHE_WAYS 2
#define NAME_BYTES_MAX 1024

struct cached_frame {
	struct frame_key key; /* code 0: empty; the entry holds a reference to code */
	u32 handle;
};

struct cached_stack {
	u64 hash;
	u32 handle;
	u32 nr;
	struct frame_key *keys;
};

struct pystack_cache {
	struct cached_frame *frames;
	u32 nr_frames, frames_size; /* frames_size is a power of 2 */
	struct cached_stack stacks[STACK_CACHE_SETS][STACK_CACHE_WAYS];
};

struct pystack_cache *pystack_new(void)
{
	return PyMem_Calloc(1, sizeof(struct pystack_cache));
}

/* Drop all entries; all handles are unknown again. */
void pystack_forget(struct pystack_cache *cache)
{
	struct cached_frame *frames = cache->frames;
	u32 size = cache->frames_size;

	for (int set = 0; set < STACK_CACHE_SETS; set++)
		for (int way = 0; way < STACK_CACHE_WAYS; way++)
			PyMem_Free(cache->stacks[set][way].keys);
	memset(cache, 0, sizeof(*cache));
	for (u32 i = 0; i < size; i++)
		Py_XDECREF((PyObject *)(uintptr_t)frames[i].key.code);
	PyMem_Free(frames);
}

void pystack_free(struct pystack_cache *cache)
{
	if (cache) {
		pystack_forget(cache);
		PyMem_Free(cache);
	}
}

static inline u64 mix(u64 hash, u64 value)
{
	hash = (hash ^ value) * 0x9fb21c651e98df25ULL;
	return hash ^ hash >> 29;
}

static struct cached_frame *find_frame(const struct pystack_cache *cache,
				       const struct frame_key *key)
{
	u32 mask = cache->frames_size - 1;
	u32 i = (u32)mix(key->code >> 4, key->lasti) & mask;

	while (cache->frames[i].key.code &&
	       (cache->frames[i].key.code != key->code || cache->frames[i].key.lasti != key->lasti))
		i = (i + 1) & mask;
	return &cache->frames[i];
}

static bool grow_frames(struct pystack_cache *cache)
{
	struct cached_frame *old = cache->frames;
	u32 old_size = cache->frames_size;

	cache->frames = PyMem_Calloc(old_size ? old_size * 2 : 256, sizeof(*old));
	if (!cache->frames) {
		cache->frames = old;
		return false;
	}
	cache->frames_size = old_size ? old_size * 2 : 256;
	for (u32 i = 0; i < old_size; i++)
		if (old[i].key.code)
			*find_frame(cache, &old[i].key) = old[i];
	PyMem_Free(old);
	return true;
}

/* depot_intern(). A long wait releases the GIL. 0: the depot is full. */
static u32 intern(struct pool *pool, enum depot_kind kind, const void *data, u32 bytes)
{
	u32 handle;

	if (depot_intern(pool, kind, data, bytes, OPERATION_NSEC, &handle) == -EBUSY) {
		Py_BEGIN_ALLOW_THREADS;
		depot_intern(pool, kind, data, bytes, PATIENCE_NSEC, &handle);
		Py_END_ALLOW_THREADS;
	}
	return handle;
}

static u32 intern_text(struct pool *pool, PyObject *text)
{
	PyObject *bytes;
	Py_ssize_t size;
	u32 handle;

	if (!text || !PyUnicode_Check(text))
		return intern(pool, DEPOT_STRING, "", 0);
	bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
	if (!bytes)
		return 0;
	size = PyBytes_GET_SIZE(bytes) < NAME_BYTES_MAX ? PyBytes_GET_SIZE(bytes) : NAME_BYTES_MAX;
	handle = intern(pool, DEPOT_STRING, PyBytes_AS_STRING(bytes), (u32)size);
	Py_DECREF(bytes);
	return handle;
}

/* The frame that stack_trace_save() stored as number nr: a new reference. */
static PyFrameObject *frame_object(unsigned int nr)
{
	PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());

	while (frame && nr--) {
		PyFrameObject *back = PyFrame_GetBack(frame);

		Py_DECREF(frame);
		frame = back;
	}
	return frame;
}

/* Name a frame and add it to the depot. 0: the depot is full, or there is no memory. */
static u32 intern_frame(struct pool *pool, unsigned int nr, const struct frame_key *key)
{
	PyCodeObject *code = (PyCodeObject *)(uintptr_t)key->code;
	PyFrameObject *frame = frame_object(nr);
	PyObject *globals = frame ? PyFrame_GetGlobals(frame) : NULL;
	PyObject *bytecode = PyCode_GetCode(code);
	struct depot_frame record = {
		.offset = (u32)key->lasti,
		.size = bytecode ? (u32)PyBytes_GET_SIZE(bytecode) : 0,
		.lineno = (u32)PyCode_Addr2Line(code, (int)key->lasti),
		.name = intern_text(pool, code->co_qualname),
		.filename = intern_text(pool, code->co_filename),
		.module = intern_text(pool, globals && PyDict_Check(globals)
						    ? PyDict_GetItemString(globals, "__name__")
						    : NULL),
	};

	Py_XDECREF(bytecode);
	Py_XDECREF(globals);
	Py_XDECREF(frame);
	PyErr_Clear();
	if (!record.name || !record.filename || !record.module)
		return 0;
	return intern(pool, DEPOT_FRAME, &record, sizeof(record));
}

static u32 frame_handle(struct pystack_cache *cache, struct pool *pool, unsigned int nr,
			const struct frame_key *key)
{
	struct cached_frame *slot;
	u32 handle;

	if (cache->nr_frames * 2 >= cache->frames_size && !grow_frames(cache))
		return 0;
	slot = find_frame(cache, key);
	if (slot->key.code)
		return slot->handle;
	handle = intern_frame(pool, nr, key);
	if (!handle)
		return 0;
	/* Naming may have run Python code, such as a destructor: look again. */
	slot = find_frame(cache, key);
	if (!slot->key.code) {
		Py_INCREF((PyObject *)(uintptr_t)key->code);
		*slot = (struct cached_frame){.key = *key, .handle = handle};
		cache->nr_frames++;
	}
	return handle;
}

static u32 intern_stack(struct pystack_cache *cache, struct pool *pool,
			const struct frame_key *keys, unsigned int nr)
{
	u32 frames[MAX_STACK_DEPTH];

	if (cache->nr_frames >= FRAME_CACHE_MAX)
		pystack_forget(cache);
	for (unsigned int i = 0; i < nr; i++) {
		frames[i] = frame_handle(cache, pool, i, &keys[i]);
		if (!frames[i])
			return 0;
	}
	return intern(pool, DEPOT_STACK, frames, nr * (u32)sizeof(frames[0]));
}

static void remember(struct cached_stack *stack, u64 hash, const struct frame_key *keys,
		     unsigned int nr, u32 handle)
{
	struct frame_key *copy = PyMem_Malloc(nr * sizeof(*keys));

	if (!copy)
		return;
	memcpy(copy, keys, nr * sizeof(*keys));
	PyMem_Free(stack->keys);
	*stack = (struct cached_stack){.hash = hash, .handle = handle, .nr = nr, .keys = copy};
}

/*
 * save_stack(): the handle of the calling thread's stack, up to depth frames. A stack that can't be
 * stored gets the failure stack and is counted. GIL held.
 */
u32 pystack_save(struct pystack_cache *cache, struct pool *pool, unsigned int depth)
{
	struct frame_key keys[MAX_STACK_DEPTH];
	unsigned int nr = stack_trace_save(keys, depth);
	struct cached_stack *set, *stack;
	u64 hash = nr;
	u32 handle;

	for (unsigned int i = 0; i < nr; i++)
		hash = mix(hash, keys[i].code + (keys[i].lasti << 44));
	set = cache->stacks[hash % STACK_CACHE_SETS];
	for (int way = 0; way < STACK_CACHE_WAYS; way++) {
		stack = &set[way];
		if (likely(stack->hash == hash && stack->nr == nr && nr &&
			   memcmp(stack->keys, keys, nr * sizeof(keys[0])) == 0))
			return stack->handle;
	}
	handle = nr ? intern_stack(cache, pool, keys, nr) : 0;
	if (!handle) {
		stat_inc(pool, stack_depot_failed);
		return pool->header->failure_handle;
	}
	remember(set[0].keys ? &set[1] : &set[0], hash, keys, nr, handle);
	if (set[0].keys && set[1].keys) { /* the newest first */
		struct cached_stack newest = set[1];

		set[1] = set[0];
		set[0] = newest;
	}
	return handle;
}
