// SPDX-License-Identifier: MIT
/*
 * py_records.c - RecordTable: records one after the other, from a dump, a trace or a copy of
 * another table.
 */
#include <errno.h>

#include "python/py.h"
#include "tables/snapshot.h"
#include "text/text_cache.h"

static const char *const migratetype_names[] = {"Unmovable", "Movable", "Reclaimable", "HighAtomic",
						"CMA",	     "Isolate", NULL};
static const char *const migrate_reason_names[] = {"compaction",
						   "memory_failure",
						   "memory_hotplug",
						   "syscall_or_cpuset",
						   "mempolicy_mbind",
						   "numa_misplaced",
						   "contig_range",
						   "longterm_pin",
						   "demotion",
						   "damon",
						   NULL};

/* What has changed in the list. */
static void update_table(RecordTableObject *self)
{
	struct po_table *table = &self->base.table;

	table->list = &self->list;
	table->page_ext = self->list.records;
	table->end_pfn = self->list.nr;
}

static RecordTableObject *record_table_alloc(PyTypeObject *type)
{
	RecordTableObject *self = (RecordTableObject *)type->tp_alloc(type, 0);

	if (!self)
		return NULL;
	record_list_init(&self->list);
	pthread_mutex_init(&self->base.scanner.lock, NULL);
	self->base.scanner.prog_fd = -1;
	atomic_init(&self->base.gate, 1);
	self->base.table.gate = &self->base.gate;
	self->base.table.gate_bit = 1;
	self->base.table.no_drop = true;
	self->base.table.pageblock_order = PAGEBLOCK_ORDER;
	update_table(self);
	return self;
}

static PyObject *record_table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	RecordTableObject *self;

	if ((args && PyTuple_GET_SIZE(args)) || (kwargs && PyDict_GET_SIZE(kwargs)))
		return PyErr_Format(PyExc_TypeError, "RecordTable() takes no arguments");
	self = record_table_alloc(type);
	if (self &&
	    !record_load_init(&self->load, &self->list, migratetype_names, migrate_reason_names)) {
		Py_DECREF(self);
		return PyErr_NoMemory();
	}
	return (PyObject *)self;
}

static void record_table_dealloc(PyObject *op)
{
	RecordTableObject *self = (RecordTableObject *)op;

	record_load_free(&self->load);
	record_list_free(&self->list);
	pthread_mutex_destroy(&self->base.scanner.lock);
	Py_TYPE(op)->tp_free(op);
}

PyObject *table_snapshot(PyObject *op, PyObject *arg)
{
	const struct po_table *table = &((TableObject *)op)->table;
	enum snapshot_result result = SNAPSHOT_DONE;
	RecordTableObject *copy;
	u64 max_bytes;

	if (!as_u64(arg, &max_bytes))
		return NULL;
	if (table->list) /* it is a copy, or as good as one */
		return Py_NewRef(op);
	copy = record_table_alloc(&RecordTable_Type);
	if (!copy)
		return NULL;
	Py_BEGIN_ALLOW_THREADS result = snapshot_table(table, &copy->list, max_bytes);
	Py_END_ALLOW_THREADS copy->base.table.pageblock_order = table->pageblock_order;
	copy->base.table.early_unknown = table->early_unknown;
	update_table(copy);
	if (result == SNAPSHOT_DONE)
		return (PyObject *)copy;
	Py_DECREF(copy);
	if (result == SNAPSHOT_NOMEM)
		return PyErr_NoMemory();
	errno = ENOSPC;
	return PyErr_SetFromErrno(PyExc_OSError);
}

static int usable(const RecordTableObject *self)
{
	if (self->load.names && !self->busy)
		return 0;
	PyErr_SetString(PyExc_ValueError, self->busy ? "another thread adds records"
						     : "the table is a copy of another");
	return -1;
}

static PyObject *record_table_feed(PyObject *op, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"", "final", NULL};
	RecordTableObject *self = (RecordTableObject *)op;
	Py_buffer text;
	ptrdiff_t used;
	int final = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|p", names, &text, &final))
		return NULL;
	if (usable(self)) {
		PyBuffer_Release(&text);
		return NULL;
	}
	self->busy = true;
	atomic_store(&self->base.gate, 0); /* who looks meanwhile sees none */
	Py_BEGIN_ALLOW_THREADS used =
		record_load_feed(&self->load, text.buf, (size_t)text.len, final);
	Py_END_ALLOW_THREADS self->busy = false;
	PyBuffer_Release(&text);
	self->base.table.pageblock_order = self->load.pageblock_order;
	self->base.table.early_unknown = self->load.early_unknown;
	update_table(self);
	atomic_store(&self->base.gate, 1);
	return used < 0 ? PyErr_NoMemory() : PyLong_FromSsize_t(used);
}

static PyObject *record_table_add(PyObject *op, PyObject *args)
{
	RecordTableObject *self = (RecordTableObject *)op;
	struct record_info info = {0};
	Py_buffer record, stack, free_stack;
	struct last_free last_free = {0};
	struct page_owner owner;
	unsigned char page_mt;
	bool done = false;
	u32 number;
	u64 pfn;

	if (!PyArg_ParseTuple(args, "O&y*y*y*b:add", as_u64, &pfn, &record, &stack, &free_stack,
			      &page_mt))
		return NULL;
	if (usable(self))
		goto out;
	if (record.len != sizeof(owner)) {
		PyErr_Format(PyExc_ValueError, "a record has %zu bytes, not %zd", sizeof(owner),
			     record.len);
		goto out;
	}
	memcpy(&owner, record.buf, sizeof(owner));
	last_free = (struct last_free){0, owner.free_pid, owner.free_tgid};
	info.page_mt = page_mt;
	number = record_list_info(&self->list, &info);
	owner.handle = record_load_stack(&self->load, stack.buf, (size_t)stack.len);
	if (owner.state & PAGE_EXT_OWNER_FREED)
		last_free.handle =
			record_load_stack(&self->load, free_stack.buf, (size_t)free_stack.len);
	done = number != UINT32_MAX && owner.handle &&
	       record_list_add(&self->list, &owner, pfn, number,
			       owner.state & PAGE_EXT_OWNER_FREED || self->list.last_frees
				       ? &last_free
				       : NULL);
	update_table(self);
	if (!done)
		PyErr_NoMemory();
out:
	PyBuffer_Release(&record);
	PyBuffer_Release(&stack);
	PyBuffer_Release(&free_stack);
	return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *string_of(const struct strings *strings, u64 number)
{
	if (number >= strings->nr)
		Py_RETURN_NONE;
	return PyBytes_FromStringAndSize(strings->items[number].text,
					 (Py_ssize_t)strings->items[number].size);
}

static PyObject *record_table_text(PyObject *op, PyObject *args)
{
	const struct record_load *load = &((RecordTableObject *)op)->load;
	const struct text *text;
	u64 value;
	int kind;

	if (!PyArg_ParseTuple(args, "iO&:text", &kind, as_u64, &value))
		return NULL;
	switch (kind) {
	case TEXT_STACK:
		return string_of(&load->stacks, value - 1);
	case TEXT_MEMCG:
		return string_of(&load->notes, value - 1);
	case TEXT_MIGRATETYPE:
		return string_of(&load->migratetypes, value);
	case TEXT_GFP:
	case TEXT_FLAGS:
		text = load->names ? text_find(load->names, (enum text_kind)kind, value) : NULL;
		if (!text)
			Py_RETURN_NONE;
		return PyBytes_FromStringAndSize(text->data, text->size);
	default:
		Py_RETURN_NONE;
	}
}

/* What records share: (flags, memcg, nid, zone, fields). */
static PyObject *record_table_infos(PyObject *op, PyObject *Py_UNUSED(unused))
{
	const struct record_list *list = &((RecordTableObject *)op)->list;
	PyObject *infos = PyList_New(0);

	for (u32 i = 0; infos && i < list->nr_infos; i++) {
		const struct record_info *info = &list->infos[i];
		PyObject *item = Py_BuildValue("KKiii", info->flags, info->memcg, info->nid,
					       info->zone, info->fields);

		if (!item || PyList_Append(infos, item))
			Py_CLEAR(infos);
		Py_XDECREF(item);
	}
	return infos;
}

static PyObject *record_table_damage(PyObject *op, void *Py_UNUSED(closure))
{
	return damage_list(&((RecordTableObject *)op)->load.walk);
}

#define NUMBER(name, value)                                                                        \
	static PyObject *record_table_##name(PyObject *op, void *Py_UNUSED(closure))               \
	{                                                                                          \
		const RecordTableObject *self = (RecordTableObject *)op;                           \
                                                                                                   \
		return PyLong_FromUnsignedLongLong(value);                                         \
	}
NUMBER(nr_records, self->list.nr)
NUMBER(nr_damaged, self->load.walk.nr_damaged)
NUMBER(nr_text_bytes, self->load.walk.nr_bytes)
NUMBER(nr_stacks, self->load.stacks.nr)
NUMBER(nr_verbatim, self->list.nr_verbatims)
NUMBER(nr_bytes, record_list_bytes(&self->list))
NUMBER(pfn_end, self->list.end_pfn)
NUMBER(pageblock_order, self->base.table.pageblock_order)

static PyMethodDef record_table_methods[] = {
	{"feed", (PyCFunction)(void (*)(void))record_table_feed, METH_VARARGS | METH_KEYWORDS,
	 "feed(text, final=False) -> bytes used; the rest must come again, with more behind it."},
	{"add", record_table_add, METH_VARARGS, "add(pfn, record, stack, free_stack, page_mt)"},
	{"text", record_table_text, METH_VARARGS,
	 "text(kind, value) -> what the text that was read had for it, or None."},
	{"infos", record_table_infos, METH_NOARGS,
	 "What records share: list of (flags, memcg, nid, zone, fields)."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef record_table_getset[] = {
	{"nr_records", record_table_nr_records, NULL, "Records that are there.", NULL},
	{"nr_damaged", record_table_nr_damaged, NULL, "Damaged records, which were skipped.", NULL},
	{"nr_text_bytes", record_table_nr_text_bytes, NULL, "Bytes of text read.", NULL},
	{"nr_stacks", record_table_nr_stacks, NULL, "Different stacks.", NULL},
	{"nr_verbatim", record_table_nr_verbatim, NULL, "Records whose text is kept.", NULL},
	{"nr_bytes", record_table_nr_bytes, NULL, "Memory of the records.", NULL},
	{"pfn_end", record_table_pfn_end, NULL, "First PFN behind all blocks.", NULL},
	{"pageblock_order", record_table_pageblock_order, NULL, "As PFNs and blocks say.", NULL},
	{"damage", record_table_damage, NULL,
	 "(offset, number of the record, reason) of the first damaged records.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject RecordTable_Type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pageownerfs._native.RecordTable",
	.tp_basicsize = sizeof(RecordTableObject),
	.tp_base = &Table_Type,
	.tp_dealloc = record_table_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_doc = "RecordTable()\n\nRecords one after the other: of a text, of a trace, or copied "
		  "from another table.",
	.tp_methods = record_table_methods,
	.tp_getset = record_table_getset,
	.tp_new = record_table_new,
};
