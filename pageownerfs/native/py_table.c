// SPDX-License-Identifier: MIT
/*
 * py_table.c - Table, KernelTable: what is rendered, for Python.
 */
#include <fcntl.h>
#include <unistd.h>

#include "mixed_blocks.h"
#include "page_ext.h"
#include "py.h"

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
		PyErr_Format(PyExc_ValueError, "%s has %zd bytes at %p: must be %llu, aligned", name, buffer->len,
			     buffer->buf, (unsigned long long)bytes);
		return -1;
	}
	return 0;
}

/* What a table has of its own; 0, or -1 with the error. */
static int fill_kernel_table(TableObject *self, PyObject *page_ext, PyObject *scan, const Py_buffer *early)
{
	static const u64 no_flags;
	int prog_fd = self->scanner.prog_fd;

	self->scanner.prog_fd = -1;
	if (early->len != sizeof(self->early)) {
		PyErr_Format(PyExc_ValueError, "early has %zd bytes: must be %zu", early->len, sizeof(self->early));
		return -1;
	}
	memcpy(&self->early, early->buf, sizeof(self->early));
	self->table.early = &self->early;
	if (get_buffer(page_ext, "page_ext", self->table.end_pfn * sizeof(struct page_owner), PyBUF_SIMPLE,
		       &self->page_ext) ||
	    get_buffer(scan, "scan", sizeof(struct page_scan), prog_fd < 0 ? PyBUF_SIMPLE : PyBUF_WRITABLE,
		       &self->scan))
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
	static char *names[] = {"page_ext", "end_pfn", "pageblock_order", "early", "scan", "prog_fd", NULL};
	PyObject *page_ext, *scan, *order;
	u64 end_pfn;
	u32 pageblock_order;
	Py_buffer early;
	TableObject *self;
	int prog_fd, error;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO&Oy*Oi:KernelTable", names, &page_ext, as_u64, &end_pfn,
					 &order, &early, &scan, &prog_fd))
		return NULL;
	if (as_u32_max(order, "pageblock_order", MAX_PAGEBLOCK_ORDER, &pageblock_order))
		goto error;
	if (end_pfn > SIZE_MAX / sizeof(struct page_owner)) {
		PyErr_Format(PyExc_ValueError, "end_pfn %llu: more than any buffer has", (unsigned long long)end_pfn);
		goto error;
	}
	self = (TableObject *)type->tp_alloc(type, 0);
	if (!self)
		goto error;
	pthread_mutex_init(&self->scanner.lock, NULL);
	self->scanner.prog_fd = prog_fd;
	self->table.end_pfn = end_pfn;
	self->table.pageblock_order = pageblock_order;
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
			counts->heads += !is_tail(pfn, *(const volatile u8 *)&shared->order);
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

	Py_BEGIN_ALLOW_THREADS
	if (!table_is_empty(table))
		count_states(table, &counts);
	Py_END_ALLOW_THREADS
	return Py_BuildValue("{sKsKsKsK}", "allocated", counts.allocated, "early", counts.early, "freed",
			     counts.freed, "heads", counts.heads);
}

static PyObject *table_mixed_blocks(PyObject *op, PyObject *args)
{
	const struct po_table *table = &((TableObject *)op)->table;
	u64 start_pfn, end_pfn, counts[NR_MIGRATETYPES] = {0};
	PyObject *list;
	bool done;
	int cma;

	if (!PyArg_ParseTuple(args, "O&O&i:mixed_blocks", as_u64, &start_pfn, as_u64, &end_pfn, &cma))
		return NULL;
	if (start_pfn < table->start_pfn || end_pfn > table->end_pfn || start_pfn > end_pfn)
		return PyErr_Format(PyExc_ValueError, "PFNs of this table are [%llu, %llu)",
				    (unsigned long long)table->start_pfn, (unsigned long long)table->end_pfn);
	Py_BEGIN_ALLOW_THREADS
	done = count_mixed_blocks(table, start_pfn, end_pfn, cma, counts);
	Py_END_ALLOW_THREADS
	if (!done)
		return PyErr_NoMemory();
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

static PyMethodDef table_methods[] = {
	{"mixed_blocks", table_mixed_blocks, METH_VARARGS,
	 "mixed_blocks(start_pfn, end_pfn, cma) -> pageblocks with owners of another type, by migratetype."},
	{"states", table_states, METH_NOARGS, "Number of base pages by state, and of heads; a pass over the table."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef table_getset[] = {
	{"start_pfn", table_start_pfn, NULL, "PFNs are [start_pfn, end_pfn).", NULL},
	{"end_pfn", table_end_pfn, NULL, "PFNs are [start_pfn, end_pfn).", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject Table_Type = {
	PyVarObject_HEAD_INIT(NULL, 0)
	.tp_name = "pageownerfs._native.Table",
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
	PyVarObject_HEAD_INIT(NULL, 0)
	.tp_name = "pageownerfs._native.KernelTable",
	.tp_basicsize = sizeof(TableObject),
	.tp_base = &Table_Type,
	.tp_dealloc = table_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_doc = "KernelTable(page_ext, end_pfn, pageblock_order, early, scan, prog_fd)\n\n"
		  "The records of the running kernel's pages; flags and memcg are what prog_fd says.",
	.tp_getset = kernel_table_getset,
	.tp_new = kernel_table_new,
};
