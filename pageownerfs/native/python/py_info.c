// SPDX-License-Identifier: MIT
/*
 * py_info.c - the state of a pool, as Python objects. All are unlocked snapshots except check().
 *
 * The results are tuples; client.py names their items.
 */
#include <stdlib.h>

#include "pool/check.h"
#include "pool/client.h"
#include "pool/stack_depot.h"
#include "pool/tracking.h"
#include "python/py.h"

static struct pool *usable(PyObject *self)
{
	return pool_usable((PoolObject *)self) ? NULL : &((PoolObject *)self)->pool;
}

static u32 pcp_count(const struct pool_client *client, unsigned int zone)
{
	u32 nr = 0;

	for (unsigned int mt = 0; mt < MIGRATE_PCPTYPES; mt++)
		nr += client->pcp[zone][mt].count <= PCP_HIGH_MAX ? client->pcp[zone][mt].count : 0;
	return nr;
}

static u64 zone_pcp_count(const struct pool *pool, unsigned int zone)
{
	u64 nr = 0;

	for (u32 slot = 0; slot < pool_nr_clients(pool); slot++)
		if (atomic_load(&pool->clients[slot].active))
			nr += pcp_count(&pool->clients[slot], zone);
	return nr;
}

static PyObject *free_by_type(const struct zone *z)
{
	PyObject *orders = PyTuple_New(NR_PAGE_ORDERS);

	for (int order = 0; orders && order < NR_PAGE_ORDERS; order++) {
		const u32 *nr = z->free_area[order].nr_free;
		PyObject *types =
			Py_BuildValue("(IIIIII)", nr[0], nr[1], nr[2], nr[3], nr[4], nr[5]);

		if (!types)
			Py_CLEAR(orders);
		else
			PyTuple_SET_ITEM(orders, order, types);
	}
	return orders;
}

static PyObject *blocks_by_type(const struct pool *pool, unsigned int zone)
{
	u32 nr[MIGRATE_TYPES] = {0};
	u32 pfn = pool->zone_span[zone].start_pfn & ~(PAGEBLOCK_NR_PAGES - 1);

	if (pool->zone_span[zone].start_pfn < pool->zone_span[zone].end_pfn)
		for (; pfn < pool->zone_span[zone].end_pfn; pfn += PAGEBLOCK_NR_PAGES)
			nr[get_pageblock_migratetype(pool, pfn)]++;
	return Py_BuildValue("(IIIIII)", nr[0], nr[1], nr[2], nr[3], nr[4], nr[5]);
}

PyObject *pool_zone_info(PyObject *self, PyObject *Py_UNUSED(unused))
{
	struct pool *pool = usable(self);
	PyObject *zones = pool ? PyList_New(0) : NULL;

	for (unsigned int zone = 0; zones && zone < MAX_NR_ZONES; zone++) {
		const struct zone *z = &pool->header->zones[zone];
		PyObject *info = Py_BuildValue(
			"(IIIIKKKKKNN)", z->start_pfn, z->end_pfn - z->start_pfn, z->present_pages,
			z->managed_pages, z->nr_free, zone_pcp_count(pool, zone),
			z->watermark[WMARK_MIN], z->watermark[WMARK_LOW], z->watermark[WMARK_HIGH],
			free_by_type(z), blocks_by_type(pool, zone));

		if (!info || PyList_Append(zones, info))
			Py_CLEAR(zones);
		Py_XDECREF(info);
	}
	return zones;
}

PyObject *pool_client_info(PyObject *self, PyObject *Py_UNUSED(unused))
{
	struct pool *pool = usable(self);
	PyObject *clients = pool ? PyList_New(0) : NULL;

	for (u32 slot = 0; clients && slot < pool_nr_clients(pool); slot++) {
		const struct pool_client *client = &pool->clients[slot];
		u32 nr_pcp = 0;
		PyObject *info;

		if (!atomic_load(&client->active))
			continue;
		for (unsigned int zone = 0; zone < MAX_NR_ZONES; zone++)
			nr_pcp += pcp_count(client, zone);
		info = Py_BuildValue("(Niiy#IK)", PyBool_FromLong(pool_client_alive(pool, slot)),
				     client->pid, client->tgid, client->comm,
				     (Py_ssize_t)strnlen(client->comm, TASK_COMM_LEN), nr_pcp,
				     client->attached_nsec);
		if (!info || PyList_Append(clients, info))
			Py_CLEAR(clients);
		Py_XDECREF(info);
	}
	return clients;
}

/* The head of the allocated block that contains a tail page; the page itself if there is none. */
static u32 head_pfn(const struct pool *pool, u32 pfn)
{
	if (word_state(page_word(pool, pfn)) != PAGE_TAIL)
		return pfn;
	for (unsigned int order = 1; order <= MAX_PAGE_ORDER; order++) {
		u32 head = pfn & ~((1U << order) - 1);
		u64 word = page_word(pool, head);

		if ((word_state(word) == PAGE_ALLOCATED || word_state(word) == PAGE_PCP) &&
		    pfn - head < 1U << (word_order(word) & 15))
			return head;
	}
	return pfn;
}

PyObject *pool_page_info(PyObject *self, PyObject *arg)
{
	struct pool *pool = usable(self);
	PyObject *owner = Py_None;
	u64 word;
	u32 pfn;

	if (!pool || as_u32(arg, "PFN", &pfn))
		return NULL;
	if (pfn >= pool->nr_pages)
		return PyErr_Format(PyExc_ValueError, "PFN 0x%x: the pool ends at 0x%x", pfn,
				    pool->nr_pages);
	word = page_word(pool, pfn);
	if (atomic_load(&pool->header->gate) & GATE_PAGE_OWNER)
		owner = PyBytes_FromStringAndSize((const char *)&pool->page_ext[pfn],
						  sizeof(struct page_owner));
	else
		Py_INCREF(owner);
	return Py_BuildValue("(IIIKIIIN)", (unsigned int)word_state(word), word_order(word),
			     word_state(word) == PAGE_ALLOCATED ? word_count(word) : 0,
			     pfn_to_page(pool, pfn)->flags, get_pageblock_migratetype(pool, pfn),
			     head_pfn(pool, pfn), page_zone(pool, pfn), owner);
}

PyObject *pool_stats(PyObject *self, PyObject *Py_UNUSED(unused))
{
	struct pool *pool = usable(self);
	u64 pgalloc = 0, pgfree = 0, pgsplit = 0;
	bool depot;

	if (!pool)
		return NULL;
	const struct pool_stats *stats = &pool->header->stats;

	depot = atomic_load(&pool->header->depot_ready);
	for (u32 slot = 0; slot < pool_nr_clients(pool); slot++) {
		pgalloc += pool->clients[slot].pgalloc;
		pgfree += pool->clients[slot].pgfree;
		pgsplit += pool->clients[slot].pgsplit;
	}
	return Py_BuildValue(
		"(KKKKKKKKKKKKKKK)", pgalloc, pgfree, pgsplit, atomic_load(&stats->oom),
		atomic_load(&stats->commit_failed), atomic_load(&stats->dead_clients),
		atomic_load(&stats->recovered_pages), atomic_load(&stats->zone_rebuilds),
		atomic_load(&stats->reported_pages), atomic_load(&stats->early_pages),
		atomic_load(&pool->header->gate) & GATE_PAGE_OWNER
			? (u64)pool->nr_page_ext_pages * PAGE_SIZE
			: 0ULL,
		atomic_load(&stats->stack_depot_stacks),
		depot ? atomic_load(&pool->header->depot_used) + DEPOT_HASH_BYTES : 0ULL,
		pool->depot_bytes + DEPOT_HASH_BYTES, atomic_load(&stats->stack_depot_failed));
}

static PyObject *depot_text(const struct pool *pool, u32 handle)
{
	u32 bytes;
	const char *text = depot_fetch(pool, handle, DEPOT_STRING, &bytes);

	return text ? PyUnicode_DecodeUTF8(text, bytes, "replace") : NULL;
}

static PyObject *depot_frame_info(const struct pool *pool, u32 handle)
{
	struct depot_frame frame;
	u32 bytes;
	const void *data = depot_fetch(pool, handle, DEPOT_FRAME, &bytes);
	PyObject *name, *module, *filename, *info = NULL;

	if (!data || bytes != sizeof(frame))
		return NULL;
	memcpy(&frame, data, sizeof(frame));
	name = depot_text(pool, frame.name);
	module = depot_text(pool, frame.module);
	filename = depot_text(pool, frame.filename);
	if (name && module && filename)
		info = Py_BuildValue("OOIIOI", name, module, frame.offset, frame.size, filename,
				     frame.lineno);
	Py_XDECREF(name);
	Py_XDECREF(module);
	Py_XDECREF(filename);
	return info;
}

PyObject *pool_depot_stack(PyObject *self, PyObject *arg)
{
	struct pool *pool = usable(self);
	PyObject *frames;
	const u32 *data;
	u32 bytes, handle;

	if (!pool || as_u32(arg, "handle", &handle))
		return NULL;
	data = depot_fetch(pool, handle, DEPOT_STACK, &bytes);
	if (!data)
		return PyErr_Format(PyExc_ValueError, "handle %u: no stack in the depot", handle);
	frames = PyList_New(0);
	for (u32 i = 0; frames && i < bytes / sizeof(*data) && i < MAX_STACK_DEPTH; i++) {
		PyObject *frame = depot_frame_info(pool, data[i]);

		if (!frame && !PyErr_Occurred())
			PyErr_Format(PyExc_ValueError, "handle %u: frame %u is corrupt", handle, i);
		if (!frame || PyList_Append(frames, frame))
			Py_CLEAR(frames);
		Py_XDECREF(frame);
	}
	return frames;
}

static int compare_listed(const void *a, const void *b)
{
	u32 first = ((const struct stack_record *)a)->listed,
	    second = ((const struct stack_record *)b)->listed;

	return (first > second) - (first < second);
}

/*
 * List the stacks that have allocated, in the order of their first allocations. False: no memory.
 */
static bool list_stacks(const struct pool *pool, struct stack_record **stacks, size_t *nr)
{
	struct stack_record stack;
	size_t room = 0;

	for (u32 handle = 0; (handle = depot_next_stack(pool, handle, &stack));
	     handle = depot_after(pool, handle)) {
		if (*nr == room) {
			struct stack_record *more =
				realloc(*stacks, (room = room ? 2 * room : 256) * sizeof(*more));

			if (!more)
				return false;
			*stacks = more;
		}
		(*stacks)[(*nr)++] = stack;
	}
	if (*nr) /* qsort() takes no null pointer */
		qsort(*stacks, *nr, sizeof(**stacks), compare_listed);
	return true;
}

PyObject *pool_stack_counts(PyObject *self, PyObject *Py_UNUSED(unused))
{
	struct pool *pool = usable(self);
	struct stack_record *stacks = NULL;
	size_t nr = 0;
	PyObject *list;

	if (!pool)
		return NULL;
#if CONFIG_PAGE_OWNER
	if (atomic_load(&pool->header->gate) & GATE_PAGE_OWNER &&
	    atomic_load(&pool->header->stacks_suspect)) {
		Py_BEGIN_ALLOW_THREADS recount_stacks(pool); /* on failure: next time */
		Py_END_ALLOW_THREADS
	}
#endif
	if (atomic_load(&pool->header->depot_ready) && !list_stacks(pool, &stacks, &nr)) {
		free(stacks);
		return PyErr_NoMemory();
	}
	list = PyList_New(0);
	for (size_t i = 0; list && i < nr; i++) {
		PyObject *item = Py_BuildValue("IL", stacks[i].handle, stacks[i].nr_base_pages);

		if (!item || PyList_Append(list, item))
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	free(stacks);
	return list;
}

struct problems {
	char *text; /* concatenated, each with its NUL */
	size_t bytes;
	bool lost; /* no memory for one */
};

static void note_problem(void *arg, const char *problem)
{
	struct problems *problems = arg;
	size_t size = strlen(problem) + 1;
	char *more = realloc(problems->text, problems->bytes + size);

	if (!more) {
		problems->lost = true;
		return;
	}
	memcpy(more + problems->bytes, problem, size);
	problems->text = more;
	problems->bytes += size;
}

PyObject *pool_check_all(PyObject *self, PyObject *Py_UNUSED(unused))
{
	struct pool *pool = usable(self);
	struct problems problems = {0};
	PyObject *list;
	int result;

	if (!pool)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	result = pool_check(pool, note_problem, &problems);
	Py_END_ALLOW_THREADS;
	if (problems.lost || result == -ENOMEM)
		list = PyErr_NoMemory();
	else
		list = result < 0 ? pool_error((PoolObject *)self, result, 0, 0) : PyList_New(0);
	for (size_t at = 0; list && at < problems.bytes; at += strlen(problems.text + at) + 1) {
		PyObject *text = PyUnicode_FromString(problems.text + at);

		if (!text || PyList_Append(list, text))
			Py_CLEAR(list);
		Py_XDECREF(text);
	}
	free(problems.text);
	return list;
}

#define FIELD(type, field) #field, (Py_ssize_t)offsetof(type, field)

/*
 * The layout of the shared structures as the compiler sees it, for the test that compares it with
 * Python.
 */
PyObject *layout(void)
{
	return Py_BuildValue(
		"{s:{s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:n},s:{s:n,s:n,s:n,s:"
		"n,s:n,s:n},"
		"s:{s:n,s:n,s:n,s:n,s:n,s:n,s:n,s:n},s:{s:n,s:n}}",
		"struct page_owner", "", (Py_ssize_t)sizeof(struct page_owner),
		FIELD(struct page_owner, ts_nsec), FIELD(struct page_owner, free_ts_nsec),
		FIELD(struct page_owner, gfp_mask), FIELD(struct page_owner, pid),
		FIELD(struct page_owner, tgid), FIELD(struct page_owner, handle),
		FIELD(struct page_owner, free_handle), FIELD(struct page_owner, free_pid),
		FIELD(struct page_owner, free_tgid), FIELD(struct page_owner, order),
		FIELD(struct page_owner, last_migrate_reason), FIELD(struct page_owner, state),
		FIELD(struct page_owner, pageblock_migratetype), FIELD(struct page_owner, comm),
		"struct page", "", (Py_ssize_t)sizeof(struct page), FIELD(struct page, flags),
		FIELD(struct page, word), FIELD(struct page, next), FIELD(struct page, prev),
		FIELD(struct page, gfp_mask), "struct pool_header", "",
		(Py_ssize_t)sizeof(struct pool_header), FIELD(struct pool_header, magic),
		FIELD(struct pool_header, page_ext_pfn), FIELD(struct pool_header, mem_map_offset),
		FIELD(struct pool_header, pageblock_offset),
		FIELD(struct pool_header, clients_offset), FIELD(struct pool_header, depot_offset),
		FIELD(struct pool_header, stats), "struct pool_client", "",
		(Py_ssize_t)sizeof(struct pool_client), FIELD(struct pool_client, pcp));
}
