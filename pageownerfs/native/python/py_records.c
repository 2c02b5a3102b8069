// SPDX-License-Identifier: MIT
/*
 * py_records.c - RecordTable: a list of records, from a dump, a trace or a copy of another table.
 */
#include <errno.h>

#include "python/py.h"
#include "tables/snapshot.h"

typedef struct {
	TableObject base;
	struct record_table table;
	struct record_load load;
	PyObject *words; /* tuple of the str that load points into; NULL: the table is a copy */
	bool busy;
} RecordTableObject;

static RecordTableObject *record_table_alloc(PyTypeObject *type)
{
	RecordTableObject *self = (RecordTableObject *)type->tp_alloc(type, 0);

	if (self) {
		record_table_init(&self->table);
		self->base.table = &self->table.table;
	}
	return self;
}

/* Add the str items of a sequence to numbered strings. 0, or -1 with the error. */
static int add_names(PyObject *names, struct strings *strings)
{
	PyObject *tuple = PySequence_Tuple(names);

	for (Py_ssize_t i = 0; tuple && i < PyTuple_GET_SIZE(tuple) && !PyErr_Occurred(); i++) {
		Py_ssize_t size;
		const char *name = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(tuple, i), &size);

		if (name && strings_add(strings, name, (size_t)size) == NO_STRING)
			PyErr_NoMemory();
	}
	Py_XDECREF(tuple);
	return PyErr_Occurred() ? -1 : 0;
}

static PyObject *record_table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {
		"migratetypes", "migrate_reasons", "reserved", "node", "zone", NULL};
	PyObject *migratetypes, *migrate_reasons, *texts[3];
	struct load_words words = {0};
	RecordTableObject *self;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOUUU:RecordTable", names, &migratetypes,
					 &migrate_reasons, &texts[0], &texts[1], &texts[2]))
		return NULL;
	self = record_table_alloc(type);
	if (!self)
		return NULL;
	self->words = PyTuple_Pack(3, texts[0], texts[1], texts[2]);
	words.reserved = PyUnicode_AsUTF8(texts[0]);
	words.node = PyUnicode_AsUTF8(texts[1]);
	words.zone = PyUnicode_AsUTF8(texts[2]);
	if (self->words && words.reserved && words.node && words.zone &&
	    !add_names(migratetypes, &words.migratetypes) &&
	    !add_names(migrate_reasons, &words.migrate_reasons)) {
		if (record_load_init(&self->load, &self->table.list, &words))
			return (PyObject *)self;
		PyErr_NoMemory();
	}
	self->load.words = words; /* so that they are freed */
	Py_DECREF(self);
	return NULL;
}

static void record_table_dealloc(PyObject *op)
{
	RecordTableObject *self = (RecordTableObject *)op;

	record_load_free(&self->load);
	record_list_free(&self->table.list);
	Py_XDECREF(self->words);
	Py_TYPE(op)->tp_free(op);
}

/* A RecordTable is as good as a copy. */
static PyObject *record_table_snapshot(PyObject *op, PyObject *Py_UNUSED(max_bytes))
{
	return Py_NewRef(op);
}

PyObject *table_snapshot(PyObject *op, PyObject *arg)
{
	TableObject *self = (TableObject *)op;
	const struct table *table = self->table;
	enum snapshot_result result = SNAPSHOT_DONE;
	RecordTableObject *copy;
	u64 max_bytes;

	if (!as_u64(arg, &max_bytes))
		return NULL;
	copy = record_table_alloc(&RecordTable_Type);
	if (!copy)
		return NULL;
	BEGIN_LOOKING(self);
	result = snapshot_table(table, &copy->table.list, max_bytes);
	END_LOOKING(self);
	copy->table.table.pageblock_order = table->pageblock_order;
	copy->table.table.early_unknown = table->early_unknown;
	record_table_update(&copy->table);
	if (result == SNAPSHOT_DONE)
		return (PyObject *)copy;
	Py_DECREF(copy);
	if (result == SNAPSHOT_NOMEM)
		return PyErr_NoMemory();
	errno = ENOSPC;
	return PyErr_SetFromErrno(PyExc_OSError);
}

/* Can records be added? 0, or -1 with the error. */
static int usable(const RecordTableObject *self)
{
	const char *why = !self->words		  ? "the table is a copy of another"
			  : self->busy		  ? "another thread is adding records"
			  : self->base.nr_looking ? "another thread is reading the table"
						  : NULL;

	if (why)
		PyErr_SetString(PyExc_ValueError, why);
	return why ? -1 : 0;
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
	atomic_store(&self->table.gate, 0);
	Py_BEGIN_ALLOW_THREADS;
	used = record_load_feed(&self->load, text.buf, (size_t)text.len, final);
	Py_END_ALLOW_THREADS;
	self->busy = false;
	PyBuffer_Release(&text);
	self->table.table.pageblock_order = self->load.pageblock_order;
	self->table.table.early_unknown = self->load.early_unknown;
	record_table_update(&self->table);
	atomic_store(&self->table.gate, 1);
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
	number = record_list_info(&self->table.list, &info);
	owner.handle = record_load_stack(&self->load, stack.buf, (size_t)stack.len);
	if (owner.state & PAGE_EXT_OWNER_FREED)
		last_free.handle =
			record_load_stack(&self->load, free_stack.buf, (size_t)free_stack.len);
	done = number != NO_NUMBER && owner.handle &&
	       record_list_add(&self->table.list, &owner, pfn, number,
			       owner.state & PAGE_EXT_OWNER_FREED || self->table.list.last_frees
				       ? &last_free
				       : NULL);
	record_table_update(&self->table);
	if (!done)
		PyErr_NoMemory();
out:
	PyBuffer_Release(&record);
	PyBuffer_Release(&stack);
	PyBuffer_Release(&free_stack);
	return done ? Py_NewRef(Py_None) : NULL;
}

bool table_text(const TableObject *table, enum text_kind kind, u64 value, struct string *text)
{
	const RecordTableObject *self = (const RecordTableObject *)table;

	return Py_IS_TYPE(table, &RecordTable_Type) && self->words && !self->busy &&
	       record_load_text(&self->load, kind, value, text);
}

static PyObject *flags_bytes(const struct flags_text *flags)
{
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)flags_size(flags));

	if (bytes)
		put_flags(PyBytes_AS_STRING(bytes), flags);
	return bytes;
}

static PyObject *record_table_text(PyObject *op, PyObject *args)
{
	const RecordTableObject *self = (RecordTableObject *)op;
	struct flags_text flags;
	struct string text;
	u64 value;
	int kind;

	if (!PyArg_ParseTuple(args, "iO&:text", &kind, as_u64, &value))
		return NULL;
	if (kind == TEXT_FLAGS && self->words && !self->busy &&
	    record_load_flags(&self->load, value, &flags))
		return flags_bytes(&flags);
	if (!table_text(&self->base, (enum text_kind)kind, value, &text))
		Py_RETURN_NONE;
	return PyBytes_FromStringAndSize(text.text, (Py_ssize_t)text.size);
}

/*
 * The part of a record_info that infos() returns. Infos that differ only in other fields are one.
 */
struct shared {
	u64 memcg;
	u16 nid;
	u8 zone, fields;
	u32 padding;
};

/* Collect each once. False: no memory. */
static bool find_shared(const struct record_list *list, struct strings *found)
{
	for (u32 i = 0; i < list->nr_infos; i++) {
		const struct record_info *info = &list->infos[i];
		const struct shared shared = {.memcg = info->memcg,
					      .nid = info->nid,
					      .zone = info->zone,
					      .fields = info->fields};

		if (strings_add(found, (const char *)&shared, sizeof(shared)) == NO_STRING)
			return false;
	}
	return true;
}

static PyObject *record_table_infos(PyObject *op, PyObject *Py_UNUSED(unused))
{
	RecordTableObject *self = (RecordTableObject *)op;
	struct strings found = {0};
	PyObject *infos;
	bool done;

	BEGIN_LOOKING(&self->base);
	done = self->busy || find_shared(&self->table.list, &found);
	END_LOOKING(&self->base);
	infos = done ? PyList_New(0) : PyErr_NoMemory();
	for (u32 i = 0; infos && i < found.nr; i++) {
		struct shared shared;
		PyObject *item;

		memcpy(&shared, found.items[i].text, sizeof(shared));
		item = Py_BuildValue("Kiii", shared.memcg, shared.nid, shared.zone, shared.fields);
		if (!item || PyList_Append(infos, item))
			Py_CLEAR(infos);
		Py_XDECREF(item);
	}
	strings_free(&found);
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
NUMBER(nr_records, self->table.list.nr)
NUMBER(nr_damaged, self->load.walk.nr_damaged)
NUMBER(nr_text_bytes, self->load.walk.nr_bytes)
NUMBER(nr_stacks, self->load.stacks.nr)
NUMBER(nr_verbatim, self->table.list.nr_verbatims)
NUMBER(nr_bytes, record_list_bytes(&self->table.list))
NUMBER(pfn_end, self->table.list.end_pfn)
NUMBER(pageblock_order, self->table.table.pageblock_order)

static PyMethodDef record_table_methods[] = {
	{"feed", (PyCFunction)(void (*)(void))record_table_feed, METH_VARARGS | METH_KEYWORDS,
	 "feed(text, final=False) -> bytes used; pass the rest again with more text after it."},
	{"add", record_table_add, METH_VARARGS, "add(pfn, record, stack, free_stack, page_mt)"},
	{"text", record_table_text, METH_VARARGS,
	 "text(kind, value) -> what the text had for this value, or None."},
	{"infos", record_table_infos, METH_NOARGS,
	 "infos() -> list of (memcg, nid, zone, fields), which records share."},
	{"snapshot", record_table_snapshot, METH_O, "snapshot(max_bytes) -> the table itself."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef record_table_getset[] = {
	{"nr_records", record_table_nr_records, NULL, "Number of records.", NULL},
	{"nr_damaged", record_table_nr_damaged, NULL,
	 "Number of damaged records, which were skipped.", NULL},
	{"nr_text_bytes", record_table_nr_text_bytes, NULL, "Bytes of text read.", NULL},
	{"nr_stacks", record_table_nr_stacks, NULL, "Number of different stacks.", NULL},
	{"nr_verbatim", record_table_nr_verbatim, NULL, "Number of records whose text is kept.",
	 NULL},
	{"nr_bytes", record_table_nr_bytes, NULL, "Memory of the records, in bytes.", NULL},
	{"pfn_end", record_table_pfn_end, NULL, "First PFN after all blocks.", NULL},
	{"pageblock_order", record_table_pageblock_order, NULL,
	 "Derived from PFNs and block numbers.", NULL},
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
	.tp_doc = "RecordTable(migratetypes, migrate_reasons, reserved, node, zone)\n\n"
		  "A list of records: of a text, of a trace, or copied from another table.",
	.tp_methods = record_table_methods,
	.tp_getset = record_table_getset,
	.tp_new = record_table_new,
};
