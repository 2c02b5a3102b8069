// SPDX-License-Identifier: MIT
/*
 * py_table.c - Table, KernelTable: what is rendered, for Python.
 */
#include <fcntl.h>
#include <unistd.h>

#include "base/gfp.h"
#include "tables/mixed_blocks.h"
#include "tables/page_ext.h"
#include "python/py.h"
#include "tables/stack_counts.h"

#define MAX_PAGEBLOCK_ORDER 63

PyObject *pool_table(PyObject *op, PyObject *Py_UNUSED(unused))
{
	PoolObject *self = (PoolObject *)op;
	TableObject *table;

	if (pool_usable(self))
		return NULL;
	table = (TableObject *)Table_Type.tp_alloc(&Table_Type, 0);
	if (!table)
		return NULL;
	self->users++;
	table->pool = (PoolObject *)Py_NewRef(op);
	table->table = (struct po_table){
		.page_ext = self->pool.page_ext,
		.flags = (const char *)&self->pool.mem_map[0].flags,
		.flags_stride = sizeof(struct page),
		.words = (const char *)&self->pool.mem_map[0].word,
		.pageblock_flags = self->pool.pageblock_flags,
		.pageblock_order = PAGEBLOCK_ORDER,
		.start_pfn = 0,
		.end_pfn = self->pool.nr_pages,
		.gate = &self->pool.header->gate,
		.gate_bit = GATE_PAGE_OWNER,
	};
	return (PyObject *)table;
}

/* A buffer of so many bytes at least (a mapping is of whole pages); 0, or -1 with the error. */
static int get_buffer(PyObject *object, const char *name, u64 bytes, int flags, Py_buffer *buffer)
{
	if (PyObject_GetBuffer(object, buffer, flags))
		return -1;
	if ((u64)buffer->len < bytes || (uintptr_t)buffer->buf % _Alignof(struct page_owner)) {
		PyErr_Format(PyExc_ValueError, "%s has %zd bytes at %p: must be %llu, aligned",
			     name, buffer->len, buffer->buf, (unsigned long long)bytes);
		return -1;
	}
	return 0;
}

/* What a table has of its own; 0, or -1 with the error. */
static int fill_kernel_table(TableObject *self, PyObject *page_ext, PyObject *scan,
			     const Py_buffer *early)
{
	static const u64 no_flags;
	int prog_fd = self->scanner.prog_fd;

	self->scanner.prog_fd = -1;
	if (early->len != sizeof(self->early)) {
		PyErr_Format(PyExc_ValueError, "early has %zd bytes: must be %zu", early->len,
			     sizeof(self->early));
		return -1;
	}
	memcpy(&self->early, early->buf, sizeof(self->early));
	self->table.early = &self->early;
	self->table.early_unknown = true;
	if (get_buffer(page_ext, "page_ext", self->table.end_pfn * sizeof(struct page_owner),
		       PyBUF_SIMPLE, &self->page_ext) ||
	    get_buffer(scan, "scan", sizeof(struct page_scan),
		       prog_fd < 0 ? PyBUF_SIMPLE : PyBUF_WRITABLE, &self->scan))
		return -1;
	self->table.page_ext = self->page_ext.buf;
	self->table.flags = (const char *)&no_flags;
	self->table.no_drop = true;
	atomic_init(&self->gate, 1);
	self->table.gate = &self->gate;
	self->table.gate_bit = 1;
	if (prog_fd < 0)
		return 0;
	/* one of our own: the caller may close its own while we read */
	self->scanner.prog_fd = fcntl(prog_fd, F_DUPFD_CLOEXEC, 0);
	if (self->scanner.prog_fd < 0) {
		PyErr_SetFromErrno(PyExc_OSError);
		return -1;
	}
	self->scanner.scan = self->scan.buf;
	self->table.scanner = &self->scanner;
	self->table.scan = page_scanner_scan;
	return 0;
}

static PyObject *kernel_table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {
		"page_ext", "end_pfn", "pageblock_order", "early", "scan", "prog_fd", "nid", NULL};
	PyObject *page_ext, *scan, *order;
	u64 end_pfn;
	u32 pageblock_order;
	Py_buffer early;
	TableObject *self;
	unsigned char nid_shift = 0, nid_bits = 0;
	int prog_fd, error;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO&Oy*Oi|(bb):KernelTable", names,
					 &page_ext, as_u64, &end_pfn, &order, &early, &scan,
					 &prog_fd, &nid_shift, &nid_bits))
		return NULL;
	if (nid_bits > 10 || nid_shift > 63) {
		PyErr_SetString(PyExc_ValueError,
				"nid: (shift, bits) of the node in the flags, 10 bits at most");
		goto error;
	}
	if (as_u32_max(order, "pageblock_order", MAX_PAGEBLOCK_ORDER, &pageblock_order))
		goto error;
	if (end_pfn > SIZE_MAX / sizeof(struct page_owner)) {
		PyErr_Format(PyExc_ValueError, "end_pfn %llu: more than any buffer has",
			     (unsigned long long)end_pfn);
		goto error;
	}
	self = (TableObject *)type->tp_alloc(type, 0);
	if (!self)
		goto error;
	pthread_mutex_init(&self->scanner.lock, NULL);
	self->scanner.prog_fd = prog_fd;
	self->table.end_pfn = end_pfn;
	self->table.pageblock_order = pageblock_order;
	self->table.nid_shift = nid_shift;
	self->table.nid_bits = nid_bits;
	error = fill_kernel_table(self, page_ext, scan, &early);
	PyBuffer_Release(&early);
	if (!error)
		return (PyObject *)self;
	Py_DECREF(self);
	return NULL;
error:
	PyBuffer_Release(&early);
	return NULL;
}

static void table_dealloc(PyObject *op)
{
	TableObject *self = (TableObject *)op;

	if (self->pool) {
		pool_drop_user(self->pool);
		Py_DECREF(self->pool);
	} else {
		if (self->scanner.prog_fd >= 0)
			close(self->scanner.prog_fd);
		pthread_mutex_destroy(&self->scanner.lock);
		PyBuffer_Release(&self->scan);
		PyBuffer_Release(&self->page_ext);
	}
	Py_TYPE(op)->tp_free(op);
}

static PyObject *table_start_pfn(PyObject *op, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((TableObject *)op)->table.start_pfn);
}

static PyObject *table_end_pfn(PyObject *op, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((TableObject *)op)->table.end_pfn);
}

static PyObject *kernel_table_on(PyObject *op, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(!table_is_empty(&((TableObject *)op)->table));
}

static int kernel_table_set_on(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
	int on = value ? PyObject_IsTrue(value) : -1;

	if (!value)
		PyErr_SetString(PyExc_AttributeError, "on can't be deleted");
	if (on >= 0)
		atomic_store(&((TableObject *)op)->gate, (u32)on);
	return on < 0 ? -1 : 0;
}

/* Base pages by state, and heads of blocks that were seen being allocated. */
struct state_counts {
	u64 allocated, early, freed, heads;
};

static void count_states(const struct po_table *table, struct state_counts *counts)
{
	u64 nr[8] = {0}, dropped_pfn = table->start_pfn;

	for (u64 pfn = table->start_pfn; pfn < table->end_pfn; pfn++) {
		const struct page_owner *shared = record_at(table, pfn);
		u8 state = state_of(shared) & 7;

		__builtin_prefetch(&shared[PREFETCH_PFNS]);
		nr[state]++;
		if ((state & ~PAGE_EXT_OWNER_FREED) == PAGE_EXT_OWNER_ALLOCATED)
			counts->heads += !is_tail(table, pfn, *(const volatile u8 *)&shared->order);
		if (pfn % 4096 == 0)
			drop_behind(table, &dropped_pfn, pfn);
	}
	drop_behind(table, &dropped_pfn, table->end_pfn);
	for (int state = 0; state < 8; state++) {
		if (!(state & PAGE_EXT_OWNER_ALLOCATED))
			counts->freed += state & PAGE_EXT_OWNER_FREED ? nr[state] : 0;
		else if (state & PAGE_EXT_OWNER_EARLY)
			counts->early += nr[state];
		else
			counts->allocated += nr[state];
	}
}

static PyObject *table_states(PyObject *op, PyObject *Py_UNUSED(unused))
{
	const struct po_table *table = &((TableObject *)op)->table;
	struct state_counts counts = {0};

	Py_BEGIN_ALLOW_THREADS if (!table_is_empty(table)) count_states(table, &counts);
	Py_END_ALLOW_THREADS return Py_BuildValue("(KKKK)", counts.allocated, counts.early,
						  counts.freed, counts.heads);
}

static PyObject *table_mixed_blocks(PyObject *op, PyObject *args)
{
	const struct po_table *table = &((TableObject *)op)->table;
	struct mixed_range range = {.nid = -1, .zone = -1};
	u64 counts[NR_MIGRATETYPES] = {0};
	PyObject *list;
	bool done;

	if (!PyArg_ParseTuple(args, "O&O&i|ii:mixed_blocks", as_u64, &range.start_pfn, as_u64,
			      &range.end_pfn, &range.cma, &range.nid, &range.zone))
		return NULL;
	if (!table->list && (range.start_pfn < table->start_pfn || range.end_pfn > table->end_pfn ||
			     range.start_pfn > range.end_pfn))
		return PyErr_Format(PyExc_ValueError, "PFNs of this table are [%llu, %llu)",
				    (unsigned long long)table->start_pfn,
				    (unsigned long long)table->end_pfn);
	Py_BEGIN_ALLOW_THREADS done = count_mixed_blocks(table, &range, counts);
	Py_END_ALLOW_THREADS if (!done) return PyErr_NoMemory();
	list = PyList_New(NR_MIGRATETYPES);
	for (int i = 0; list && i < NR_MIGRATETYPES; i++) {
		PyObject *count = PyLong_FromUnsignedLongLong(counts[i]);

		if (!count) {
			Py_CLEAR(list);
			break;
		}
		PyList_SET_ITEM(list, i, count);
	}
	return list;
}

static PyObject *build_counts(const struct stack_counts *counts)
{
	PyObject *list = PyList_New(0);

	for (u32 i = 0; list && i < counts->nr_slots; i++) {
		const struct stack_count *slot = &counts->slots[i];
		PyObject *item;

		if (!slot->handle)
			continue;
		item = Py_BuildValue("IKK", slot->handle, slot->nr_base_pages, slot->first_ts_nsec);
		if (!item || PyList_Append(list, item))
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	return list;
}

static PyObject *table_count_stacks(PyObject *op, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"early", NULL};
	const struct po_table *table = &((TableObject *)op)->table;
	struct stack_counts counts = {0};
	PyObject *list = NULL;
	bool done = true;
	int early = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$p:count_stacks", names, &early))
		return NULL;
	Py_BEGIN_ALLOW_THREADS if (!table_is_empty(table)) done =
		count_stacks(table, early, &counts);
	Py_END_ALLOW_THREADS list = done ? build_counts(&counts) : PyErr_NoMemory();
	free(counts.slots);
	return list;
}

static PyObject *table_heads(PyObject *op, PyObject *args)
{
	const struct po_table *table = &((TableObject *)op)->table;
	u64 at, nr_heads, nr = 0;
	struct page_owner owner;
	PyObject *list;
	int early = 1;

	if (!PyArg_ParseTuple(args, "O&O&|p:heads", as_u64, &at, as_u64, &nr_heads, &early))
		return NULL;
	list = PyList_New(0);
	at = table->list	     ? record_list_at(table->list, at)
	     : at < table->start_pfn ? table->start_pfn
				     : at;
	while (list && nr < nr_heads && !table_is_empty(table)) {
		PyObject *pfn;

		at = next_head(table, at, table->end_pfn);
		if (at >= table->end_pfn)
			break;
		if (!read_page_owner(table, at, &owner) || is_tail(table, at, owner.order) ||
		    !owner.handle || (!early && owner.state & PAGE_EXT_OWNER_EARLY)) {
			at++;
			continue;
		}
		pfn = PyLong_FromUnsignedLongLong(table->list ? record_pfn(&owner) : at);
		if (!pfn || PyList_Append(list, pfn))
			Py_CLEAR(list);
		Py_XDECREF(pfn);
		at = pfn_after(table, at, owner.order);
		nr++;
	}
	return list;
}

/* Where the record of a page is; end_pfn: it has none. */
static u64 place_of(const struct po_table *table, u64 pfn)
{
	if (table_is_empty(table))
		return table->end_pfn;
	if (table->list)
		return record_list_find(table->list, pfn);
	return pfn >= table->start_pfn && pfn < table->end_pfn ? pfn : table->end_pfn;
}

static PyObject *table_has_page(PyObject *op, PyObject *arg)
{
	const struct po_table *table = &((TableObject *)op)->table;
	u64 pfn;

	return as_u64(arg, &pfn) ? PyBool_FromLong(place_of(table, pfn) < table->end_pfn) : NULL;
}

static PyObject *table_page(PyObject *op, PyObject *arg)
{
	const struct po_table *table = &((TableObject *)op)->table;
	const struct record_list *list = table->list;
	struct page_owner owner;
	struct page_info info;
	u64 pfn, at, head;
	u8 page_mt;
	bool allocated;

	if (!as_u64(arg, &pfn))
		return NULL;
	at = place_of(table, pfn);
	if (at >= table->end_pfn)
		Py_RETURN_NONE;
	allocated = read_page_owner(table, at, &owner);
	if (!page_info_at(table, at, &info))
		return PyErr_NoMemory();
	head = list	   ? record_pfn(&owner)
	       : allocated ? pfn & ~((1ULL << (owner.order & 63)) - 1)
			   : pfn;
	page_mt = list ? list->infos[owner.info].page_mt : (u8)gfp_migratetype(owner.gfp_mask);
	if (list) {
		const struct last_free none = {0},
				       *last = list->last_frees ? &list->last_frees[at] : &none;

		owner.free_handle = last->handle;
		owner.free_pid = last->pid;
		owner.free_tgid = last->tgid;
	}
	return Py_BuildValue("(KOy#KKii)", head, allocated ? Py_True : Py_False,
			     (const char *)&owner, (Py_ssize_t)sizeof(owner), info.flags,
			     info.memcg, info.pageblock_migratetype, page_mt);
}

static PyMethodDef table_methods[] = {
	{"count_stacks", (PyCFunction)(void (*)(void))table_count_stacks,
	 METH_VARARGS | METH_KEYWORDS,
	 "count_stacks(*, early=False) -> list of (handle, nr_base_pages, ts_nsec of the oldest); "
	 "a pass over the table."},
	{"heads", table_heads, METH_VARARGS,
	 "heads(pfn, nr, early=True) -> so many PFNs of allocated blocks, at most, from pfn on."},
	{"has_page", table_has_page, METH_O, "has_page(pfn): is it one of this table's?"},
	{"page", table_page, METH_O,
	 "page(pfn) -> what is known of a page, see PageExt of mm/page_ext.py, or None."},
	{"snapshot", table_snapshot, METH_O,
	 "snapshot(max_bytes) -> RecordTable; OSError ENOSPC: it would take more."},
	{"mixed_blocks", table_mixed_blocks, METH_VARARGS,
	 "mixed_blocks(start_pfn, end_pfn, cma, nid=-1, zone=-1) -> pageblocks with owners of "
	 "another type, by migratetype."},
	{"states", table_states, METH_NOARGS,
	 "states() -> numbers of pages, see PageCounts of mm/page_ext.py; a pass over the table."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef table_getset[] = {
	{"start_pfn", table_start_pfn, NULL, "PFNs are [start_pfn, end_pfn).", NULL},
	{"end_pfn", table_end_pfn, NULL, "PFNs are [start_pfn, end_pfn).", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject Table_Type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pageownerfs._native.Table",
	.tp_basicsize = sizeof(TableObject),
	.tp_dealloc = table_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.tp_doc = "The records of one source.",
	.tp_methods = table_methods,
	.tp_getset = table_getset,
};

static PyGetSetDef kernel_table_getset[] = {
	{"on", kernel_table_on, kernel_table_set_on, "False: no record is there.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject KernelTable_Type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pageownerfs._native.KernelTable",
	.tp_basicsize = sizeof(TableObject),
	.tp_base = &Table_Type,
	.tp_dealloc = table_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_doc =
		"KernelTable(page_ext, end_pfn, pageblock_order, early, scan, prog_fd, nid=(0, "
		"0))\n\n"
		"The records of the running kernel's pages; flags and memcg are what prog_fd says.",
	.tp_getset = kernel_table_getset,
	.tp_new = kernel_table_new,
};
