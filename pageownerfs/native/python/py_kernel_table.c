// SPDX-License-Identifier: MIT
/*
 * py_kernel_table.c - KernelTable: the records of the running kernel, in buffers.
 */
#include <fcntl.h>
#include <unistd.h>

#include "python/py.h"
#include "tables/kernel_table.h"

#define MAX_PAGEBLOCK_ORDER 63

typedef struct {
	TableObject base;
	struct kernel_table table;
	Py_buffer page_ext, scan;
} KernelTableObject;

/* Get a buffer of at least this many bytes (mappings are whole pages). 0, or -1 with the error. */
static int get_buffer(PyObject *object, const char *name, u64 bytes, int flags, Py_buffer *buffer)
{
	if (PyObject_GetBuffer(object, buffer, flags))
		return -1;
	if ((u64)buffer->len < bytes)
		PyErr_Format(PyExc_ValueError, "%s has %zd bytes: must be at least %llu", name,
			     buffer->len, (unsigned long long)bytes);
	else if ((uintptr_t)buffer->buf % _Alignof(struct page_owner))
		PyErr_Format(PyExc_ValueError, "%s lies at %p: must be aligned to %zu bytes", name,
			     buffer->buf, _Alignof(struct page_owner));
	return PyErr_Occurred() ? -1 : 0;
}

/* Fill in the table. 0, or -1 with the error. */
static int fill_kernel_table(KernelTableObject *self, PyObject *page_ext, PyObject *scan,
			     const Py_buffer *early, int prog_fd)
{
	struct kernel_table *table = &self->table;

	if (early->len != sizeof(table->early)) {
		PyErr_Format(PyExc_ValueError, "early has %zd bytes: must be %zu", early->len,
			     sizeof(table->early));
		return -1;
	}
	memcpy(&table->early, early->buf, sizeof(table->early));
	if (get_buffer(page_ext, "page_ext", table->table.end * sizeof(struct page_owner),
		       PyBUF_SIMPLE, &self->page_ext) ||
	    get_buffer(scan, "scan", sizeof(struct page_scan),
		       prog_fd < 0 ? PyBUF_SIMPLE : PyBUF_WRITABLE, &self->scan))
		return -1;
	table->page_ext = self->page_ext.buf;
	table->scanner.scan = self->scan.buf;
	if (prog_fd < 0)
		return 0;
	/* a descriptor of our own: the caller may close its own while we read */
	table->scanner.prog_fd = fcntl(prog_fd, F_DUPFD_CLOEXEC, 0);
	if (table->scanner.prog_fd >= 0)
		return 0;
	PyErr_SetFromErrno(PyExc_OSError);
	return -1;
}

static PyObject *kernel_table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {
		"page_ext", "end_pfn", "pageblock_order", "early", "scan", "prog_fd", "nid", NULL};
	PyObject *page_ext, *scan, *order;
	u64 end_pfn;
	u32 pageblock_order;
	Py_buffer early;
	KernelTableObject *self;
	unsigned char nid_shift = 0, nid_bits = 0;
	int prog_fd, error;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO&Oy*Oi|(bb):KernelTable", names,
					 &page_ext, as_u64, &end_pfn, &order, &early, &scan,
					 &prog_fd, &nid_shift, &nid_bits))
		return NULL;
	if (nid_bits > 10 || nid_shift > 63) {
		PyErr_SetString(
			PyExc_ValueError,
			"nid must be (shift, bits) of the node in the flags, at most 10 bits");
		goto error;
	}
	if (as_u32_max(order, "pageblock_order", MAX_PAGEBLOCK_ORDER, &pageblock_order))
		goto error;
	if (end_pfn > SIZE_MAX / sizeof(struct page_owner)) {
		PyErr_Format(PyExc_ValueError, "end_pfn %llu: no buffer can be that large",
			     (unsigned long long)end_pfn);
		goto error;
	}
	self = (KernelTableObject *)type->tp_alloc(type, 0);
	if (!self)
		goto error;
	self->base.table = &self->table.table;
	kernel_table_init(&self->table);
	self->table.table.end = end_pfn;
	self->table.table.pageblock_order = pageblock_order;
	self->table.nid_shift = nid_shift;
	self->table.nid_bits = nid_bits;
	error = fill_kernel_table(self, page_ext, scan, &early, prog_fd);
	PyBuffer_Release(&early);
	if (!error)
		return (PyObject *)self;
	Py_DECREF(self);
	return NULL;
error:
	PyBuffer_Release(&early);
	return NULL;
}

static void kernel_table_dealloc(PyObject *op)
{
	KernelTableObject *self = (KernelTableObject *)op;

	if (self->table.scanner.prog_fd >= 0)
		close(self->table.scanner.prog_fd);
	kernel_table_destroy(&self->table);
	PyBuffer_Release(&self->scan);
	PyBuffer_Release(&self->page_ext);
	Py_TYPE(op)->tp_free(op);
}

static PyObject *kernel_table_on(PyObject *op, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(!table_is_empty(((TableObject *)op)->table));
}

static int kernel_table_set_on(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
	int on = value ? PyObject_IsTrue(value) : -1;

	if (!value)
		PyErr_SetString(PyExc_AttributeError, "on can't be deleted");
	if (on >= 0)
		atomic_store(&((KernelTableObject *)op)->table.gate, (u32)on);
	return on < 0 ? -1 : 0;
}

static PyGetSetDef kernel_table_getset[] = {
	{"on", kernel_table_on, kernel_table_set_on, "False: the table has no records.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject KernelTable_Type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pageownerfs._native.KernelTable",
	.tp_basicsize = sizeof(KernelTableObject),
	.tp_base = &Table_Type,
	.tp_dealloc = kernel_table_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_doc = "KernelTable(page_ext, end_pfn, pageblock_order, early, scan, prog_fd, nid=(0, "
		  "0))\n\n"
		  "The records of the running kernel's pages. The program prog_fd finds flags and "
		  "memcg.",
	.tp_getset = kernel_table_getset,
	.tp_new = kernel_table_new,
};
