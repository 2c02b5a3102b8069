// SPDX-License-Identifier: MIT
/*
 * py_sort.c - Groups and Group: page_owner_sort.c for Python.
 *
 * Reading and sorting run without the GIL. busy is set meanwhile, and keeps other calls away from
 * the same Groups.
 */
#include "python/py.h"
#include "sort/page_owner_sort_order.h"

typedef struct {
	PyObject_HEAD struct sorter sorter;
	PyObject *comms, *modules; /* tuples of bytes, which the filter points into */
	u32 *numbers;		   /* the order; NULL: as they came */
	bool busy;
} GroupsObject;

typedef struct {
	PyObject_HEAD GroupsObject *groups;
	u32 number;
} GroupObject;

/* ---- Groups ---- */

static int groups_usable(GroupsObject *self)
{
	if (!self->busy)
		return 0;
	PyErr_SetString(PyExc_RuntimeError, "another thread is using these groups");
	return -1;
}

/* Convert a sequence of int to an array; NULL with *nr 0 for None. 0, or -1 with an exception. */
static int filter_numbers(PyObject *arg, const s32 **numbers, u32 *nr)
{
	PyObject *tuple;
	s32 *array;

	if (arg == Py_None)
		return 0;
	tuple = PySequence_Tuple(arg);
	if (!tuple)
		return -1;
	*numbers = array = PyMem_Calloc((size_t)PyTuple_GET_SIZE(tuple) + 1, sizeof(*array));
	for (Py_ssize_t i = 0; array && i < PyTuple_GET_SIZE(tuple); i++) {
		if (as_pid(PyTuple_GET_ITEM(tuple, i), &array[(*nr)++])) {
			Py_DECREF(tuple);
			return -1;
		}
	}
	Py_DECREF(tuple);
	if (!array)
		PyErr_NoMemory();
	return array ? 0 : -1;
}

/* Like filter_numbers(), for bytes, which *owner keeps alive. */
static int filter_strings(PyObject *arg, PyObject **owner, const struct string **strings, u32 *nr)
{
	struct string *array;

	if (arg == Py_None)
		return 0;
	*owner = PySequence_Tuple(arg);
	if (!*owner)
		return -1;
	*strings = array = PyMem_Calloc((size_t)PyTuple_GET_SIZE(*owner) + 1, sizeof(*array));
	if (!array) {
		PyErr_NoMemory();
		return -1;
	}
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(*owner); i++) {
		char *text;
		Py_ssize_t size;

		if (PyBytes_AsStringAndSize(PyTuple_GET_ITEM(*owner, i), &text, &size))
			return -1;
		array[(*nr)++] = (struct string){.text = text, .size = (size_t)size};
	}
	return 0;
}

static PyObject *groups_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"key", "pids", "tgids", "comms", "modules", "unreleased", NULL};
	PyObject *pids = Py_None, *tgids = Py_None, *comms = Py_None, *modules = Py_None;
	struct sort_filter *filter;
	GroupsObject *self;
	unsigned int key;
	int unreleased = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "I|OOOOp", names, &key, &pids, &tgids,
					 &comms, &modules, &unreleased))
		return NULL;
	if (!(key & ((1u << FIELD_TS) - 1)) || key >> FIELD_FREE_TS)
		return PyErr_Format(PyExc_ValueError, "key %#x: not a key for groups", key);
	self = (GroupsObject *)type->tp_alloc(type, 0);
	if (!self)
		return NULL;
	self->sorter.key = key;
	filter = &self->sorter.filter;
	filter->unreleased = unreleased;
	if (filter_numbers(pids, &filter->pids, &filter->nr_pids) ||
	    filter_numbers(tgids, &filter->tgids, &filter->nr_tgids) ||
	    filter_strings(comms, &self->comms, &filter->comms, &filter->nr_comms) ||
	    filter_strings(modules, &self->modules, &filter->modules, &filter->nr_modules)) {
		Py_DECREF(self);
		return NULL;
	}
	return (PyObject *)self;
}

static void groups_dealloc(PyObject *op)
{
	GroupsObject *self = (GroupsObject *)op;
	const struct sort_filter *filter = &self->sorter.filter;

	sorter_free(&self->sorter);
	PyMem_Free((void *)filter->pids);
	PyMem_Free((void *)filter->tgids);
	PyMem_Free((void *)filter->comms);
	PyMem_Free((void *)filter->modules);
	PyMem_RawFree(self->numbers);
	Py_XDECREF(self->comms);
	Py_XDECREF(self->modules);
	Py_TYPE(op)->tp_free(op);
}

static PyObject *groups_feed(PyObject *op, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"", "final", NULL};
	GroupsObject *self = (GroupsObject *)op;
	Py_buffer text;
	ptrdiff_t used;
	int final = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|p", names, &text, &final))
		return NULL;
	if (groups_usable(self)) {
		PyBuffer_Release(&text);
		return NULL;
	}
	PyMem_RawFree(self->numbers);
	self->numbers = NULL;
	self->busy = true;
	Py_BEGIN_ALLOW_THREADS;
	used = sorter_feed(&self->sorter, text.buf, (size_t)text.len, final);
	Py_END_ALLOW_THREADS;
	self->busy = false;
	PyBuffer_Release(&text);
	return used < 0 ? PyErr_NoMemory() : PyLong_FromSsize_t(used);
}

static PyObject *groups_merge(PyObject *op, PyObject *arg)
{
	GroupsObject *self = (GroupsObject *)op, *other = (GroupsObject *)arg;
	bool done;

	if (!Py_IS_TYPE(arg, &Groups_Type) || other == self ||
	    other->sorter.key != self->sorter.key)
		return PyErr_Format(PyExc_ValueError,
				    "only other Groups with the same key can be merged");
	if (groups_usable(self) || groups_usable(other))
		return NULL;
	PyMem_RawFree(self->numbers);
	PyMem_RawFree(other->numbers);
	self->numbers = other->numbers = NULL;
	self->busy = other->busy = true;
	Py_BEGIN_ALLOW_THREADS;
	done = sorter_merge(&self->sorter, &other->sorter);
	Py_END_ALLOW_THREADS;
	self->busy = other->busy = false;
	return done ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

static int parse_keys(PyObject *arg, struct sort_order *order, struct sort_key *keys)
{
	PyObject *tuple = PySequence_Tuple(arg);

	for (Py_ssize_t i = 0; tuple && i < PyTuple_GET_SIZE(tuple); i++) {
		PyObject *key = PyTuple_GET_ITEM(tuple, i);
		int field, descending;

		if (!PyTuple_Check(key)) {
			PyErr_SetString(PyExc_TypeError, "a sort key must be (field, descending)");
			break;
		}
		if (!PyArg_ParseTuple(key, "ip;a sort key must be (field, descending)", &field,
				      &descending))
			break;
		if (field < 0 || field >= NR_FIELDS || i == NR_FIELDS) {
			PyErr_Format(PyExc_ValueError,
				     "%d: not a field to sort by, or too many fields", field);
			break;
		}
		keys[i] = (struct sort_key){.field = (enum sort_field)field,
					    .sign = descending ? -1 : 1};
		order->nr_keys++;
	}
	Py_XDECREF(tuple);
	return PyErr_Occurred() ? -1 : 0;
}

static PyObject *groups_sort(PyObject *op, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"", "ties_reversed", NULL};
	GroupsObject *self = (GroupsObject *)op;
	struct sort_key keys[NR_FIELDS];
	struct sort_order order = {.sorter = &self->sorter, .keys = keys};
	int ties_reversed = 0;
	PyObject *arg;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|p", names, &arg, &ties_reversed) ||
	    parse_keys(arg, &order, keys) || groups_usable(self))
		return NULL;
	order.ties_reversed = ties_reversed;
	if (!self->numbers)
		self->numbers =
			PyMem_RawMalloc((self->sorter.nr_groups + 1ul) * sizeof(*self->numbers));
	if (!self->numbers)
		return PyErr_NoMemory();
	self->busy = true;
	Py_BEGIN_ALLOW_THREADS;
	sorter_order(&order, self->numbers);
	Py_END_ALLOW_THREADS;
	self->busy = false;
	Py_RETURN_NONE;
}

static Py_ssize_t groups_length(PyObject *op)
{
	return ((GroupsObject *)op)->sorter.nr_groups;
}

static PyObject *groups_item(PyObject *op, Py_ssize_t i)
{
	GroupsObject *self = (GroupsObject *)op;
	GroupObject *group;

	if (groups_usable(self))
		return NULL;
	if (i < 0 || i >= groups_length(op))
		return PyErr_Format(PyExc_IndexError, "group index out of range");
	group = PyObject_New(GroupObject, &Group_Type);
	if (!group)
		return NULL;
	group->groups = (GroupsObject *)Py_NewRef(op);
	group->number = self->numbers ? self->numbers[i] : (u32)i;
	return (PyObject *)group;
}

static PyObject *groups_damage(PyObject *op, void *Py_UNUSED(closure))
{
	return damage_list(&((GroupsObject *)op)->sorter.walk);
}

#define GROUPS_NUMBER(name, field)                                                                 \
	static PyObject *groups_##name(PyObject *op, void *Py_UNUSED(closure))                     \
	{                                                                                          \
		return PyLong_FromUnsignedLongLong(((GroupsObject *)op)->sorter.field);            \
	}
GROUPS_NUMBER(nr_records, nr_records)
GROUPS_NUMBER(nr_seen, walk.nr_seen)
GROUPS_NUMBER(nr_damaged, walk.nr_damaged)
GROUPS_NUMBER(nr_bytes, walk.nr_bytes)
GROUPS_NUMBER(fields, fields)

static PyMethodDef groups_methods[] = {
	{"feed", (PyCFunction)(void (*)(void))groups_feed, METH_VARARGS | METH_KEYWORDS,
	 "feed(text, final=False) -> bytes used; pass the rest again with more text after it."},
	{"merge", groups_merge, METH_O,
	 "merge(other)\n\nAdd the groups of another Groups, whose text follows; other is emptied."},
	{"sort", (PyCFunction)(void (*)(void))groups_sort, METH_VARARGS | METH_KEYWORDS,
	 "sort(keys, ties_reversed=False); keys are (field, descending)."},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef groups_getset[] = {
	{"nr_records", groups_nr_records, NULL, "Number of records that passed the filters.", NULL},
	{"nr_seen", groups_nr_seen, NULL,
	 "Number of records read, including filtered and damaged ones.", NULL},
	{"nr_damaged", groups_nr_damaged, NULL, "Number of damaged records, which were skipped.",
	 NULL},
	{"nr_bytes", groups_nr_bytes, NULL, "Bytes of text read.", NULL},
	{"fields", groups_fields, NULL, "HAS_* bits that at least one record has.", NULL},
	{"damage", groups_damage, NULL,
	 "(offset, number of the record, reason) of the first damaged records.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PySequenceMethods groups_sequence = {.sq_length = groups_length, .sq_item = groups_item};

PyTypeObject Groups_Type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pageownerfs._native.Groups",
	.tp_basicsize = sizeof(GroupsObject),
	.tp_dealloc = groups_dealloc,
	.tp_as_sequence = &groups_sequence,
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_doc = "The records of a text in groups.",
	.tp_methods = groups_methods,
	.tp_getset = groups_getset,
	.tp_new = groups_new,
};

/* ---- Group ---- */

static void group_dealloc(PyObject *op)
{
	Py_DECREF(((GroupObject *)op)->groups);
	PyObject_Free(op);
}

/* NULL with an exception: its Groups are being changed. */
static const struct sort_group *group_of(PyObject *op)
{
	GroupObject *self = (GroupObject *)op;

	if (groups_usable(self->groups))
		return NULL;
	if (self->number < self->groups->sorter.nr_groups)
		return &self->groups->sorter.groups[self->number];
	PyErr_SetString(PyExc_RuntimeError, "these groups were merged into others");
	return NULL;
}

static const struct sorter *sorter_of(PyObject *op)
{
	return &((GroupObject *)op)->groups->sorter;
}

static PyObject *string_bytes(const struct string *string)
{
	return PyBytes_FromStringAndSize(string->text, (Py_ssize_t)string->size);
}

#define GROUP_GETTER(name, has, value)                                                             \
	static PyObject *group_##name(PyObject *op, void *Py_UNUSED(closure))                      \
	{                                                                                          \
		const struct sort_group *group = group_of(op);                                     \
                                                                                                   \
		if (!group)                                                                        \
			return NULL;                                                               \
		if ((has) && !(group->fields & (has)))                                             \
			Py_RETURN_NONE;                                                            \
		return value;                                                                      \
	}
GROUP_GETTER(times, 0, PyLong_FromUnsignedLongLong(group->times))
GROUP_GETTER(pages, 0, PyLong_FromUnsignedLongLong(group->pages))
GROUP_GETTER(order, 0, PyLong_FromLong(group->order))
GROUP_GETTER(allocator, 0, PyLong_FromLong(group->allocator))
GROUP_GETTER(mask, 0, string_bytes(&sorter_of(op)->masks.items[group->mask]))
GROUP_GETTER(stacktrace, 0, string_bytes(&sorter_of(op)->stacks.items[group->stack]))
GROUP_GETTER(pid, TEXT_HAS_PID, PyLong_FromLong(group->pid))
GROUP_GETTER(tgid, TEXT_HAS_TGID, PyLong_FromLong(group->tgid))
GROUP_GETTER(comm, TEXT_HAS_TGID, string_bytes(&sorter_of(op)->comms.items[group->comm]))
GROUP_GETTER(ts_nsec, TEXT_HAS_TS, PyLong_FromUnsignedLongLong(group->ts_nsec))
GROUP_GETTER(free_ts_nsec, TEXT_HAS_FREE_TS, PyLong_FromUnsignedLongLong(group->free_ts_nsec))

static PyObject *group_module(PyObject *op, void *Py_UNUSED(closure))
{
	const struct sort_group *group = group_of(op);
	u32 module;

	if (!group)
		return NULL;
	module = sorter_of(op)->stack_infos[group->stack].module;
	return module == NO_STRING ? PyBytes_FromString("vmlinux")
				   : string_bytes(&sorter_of(op)->modules.items[module]);
}

static PyObject *group_text(PyObject *op, void *Py_UNUSED(closure))
{
	const struct sort_group *group = group_of(op);
	const struct string *stack;
	char header[HEADER_MAX];
	PyObject *text;
	size_t size;

	if (!group)
		return NULL;
	stack = &sorter_of(op)->stacks.items[group->stack];
	size = sorter_header(sorter_of(op), group, header);
	text = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(size + stack->size));
	if (text) {
		memcpy(PyBytes_AS_STRING(text), header, size);
		memcpy(PyBytes_AS_STRING(text) + size, stack->text, stack->size);
	}
	return text;
}

static PyGetSetDef group_getset[] = {
	{"times", group_times, NULL, "Number of records.", NULL},
	{"pages", group_pages, NULL, "Number of base pages of all records.", NULL},
	{"order", group_order, NULL, "Of the first record, like all that follows.", NULL},
	{"mask", group_mask, NULL, "The gfp mask as printed.", NULL},
	{"pid", group_pid, NULL, "None if the text does not have it.", NULL},
	{"tgid", group_tgid, NULL, "None if the text does not have it.", NULL},
	{"comm", group_comm, NULL, "None if the text does not have it.", NULL},
	{"ts_nsec", group_ts_nsec, NULL, "None if the text does not have it.", NULL},
	{"free_ts_nsec", group_free_ts_nsec, NULL, "None if the text does not have it.", NULL},
	{"allocator", group_allocator, NULL, "ALLOCATOR_* bits.", NULL},
	{"module", group_module, NULL, "That of the innermost frame with a module, or vmlinux.",
	 NULL},
	{"stacktrace", group_stacktrace, NULL, "The lines after the header and PFN lines.", NULL},
	{"text", group_text, NULL,
	 "The text without the PFN line, and without ts unless that is part of the key.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject Group_Type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pageownerfs._native.Group",
	.tp_basicsize = sizeof(GroupObject),
	.tp_dealloc = group_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.tp_doc = "Records that are alike: their number, and the fields of the first one.",
	.tp_getset = group_getset,
};
