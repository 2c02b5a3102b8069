// SPDX-License-Identifier: MIT
/*
 * py_table.c - Table: reading a table of any source. Passes over it run without the GIL. What it
 * points to stays valid as long as the Table exists.
 */
#include "python/py.h"
#include "tables/find.h"
#include "tables/mixed_blocks.h"
#include "tables/page_states.h"
#include "tables/stack_counts.h"

static PyObject *table_start_pfn(PyObject *op, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((TableObject *)op)->table->start);
}

static PyObject *table_end_pfn(PyObject *op, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLongLong(((TableObject *)op)->table->end);
}

static PyObject *table_states(PyObject *op, PyObject *Py_UNUSED(unused))
{
	TableObject *self = (TableObject *)op;
	const struct table *table = self->table;
	struct page_states states = {0};

	BEGIN_LOOKING(self);
	if (!table_is_empty(table))
		count_page_states(table, &states);
	END_LOOKING(self);
	return Py_BuildValue("(KKKK)", states.allocated, states.early, states.freed, states.heads);
}

static PyObject *number_list(const u64 *numbers, u32 nr)
{
	PyObject *list = PyList_New(nr);

	for (u32 i = 0; list && i < nr; i++) {
		PyObject *number = PyLong_FromUnsignedLongLong(numbers[i]);

		if (!number) {
			Py_CLEAR(list);
			break;
		}
		PyList_SET_ITEM(list, i, number);
	}
	return list;
}

static PyObject *table_mixed_blocks(PyObject *op, PyObject *args)
{
	TableObject *self = (TableObject *)op;
	const struct table *table = self->table;
	struct mixed_range range = {.nid = -1, .zone = -1};
	u64 counts[NR_MIGRATETYPES] = {0};
	bool done = true;

	if (!PyArg_ParseTuple(args, "O&O&i|ii:mixed_blocks", as_u64, &range.start_pfn, as_u64,
			      &range.end_pfn, &range.cma, &range.nid, &range.zone))
		return NULL;
	if (table->by_page && (range.start_pfn < table->start || range.end_pfn > table->end ||
			       range.start_pfn > range.end_pfn))
		return PyErr_Format(PyExc_ValueError, "PFNs of this table are [%llu, %llu)",
				    (unsigned long long)table->start,
				    (unsigned long long)table->end);
	BEGIN_LOOKING(self);
	if (!table_is_empty(table))
		done = table->ops->mixed_blocks(table, &range, counts);
	END_LOOKING(self);
	return done ? number_list(counts, NR_MIGRATETYPES) : PyErr_NoMemory();
}

static PyObject *build_counts(const struct stack_counts *counts)
{
	PyObject *list = PyList_New(counts->nr);

	for (u32 i = 0; list && i < counts->nr; i++) {
		const struct stack_count *count = &counts->stacks[i];
		PyObject *item = Py_BuildValue("IKK", count->handle, count->nr_base_pages,
					       count->first_ts_nsec);

		if (!item) {
			Py_CLEAR(list);
			break;
		}
		PyList_SET_ITEM(list, i, item);
	}
	return list;
}

static PyObject *table_count_stacks(PyObject *op, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"early", NULL};
	TableObject *self = (TableObject *)op;
	const struct table *table = self->table;
	struct stack_counts counts = {0};
	PyObject *list = NULL;
	bool done = true;
	int early = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$p:count_stacks", names, &early))
		return NULL;
	BEGIN_LOOKING(self);
	if (!table_is_empty(table))
		done = count_stacks(table, early, &counts);
	END_LOOKING(self);
	list = done ? build_counts(&counts) : PyErr_NoMemory();
	stack_counts_free(&counts);
	return list;
}

static PyObject *table_heads(PyObject *op, PyObject *args)
{
	TableObject *self = (TableObject *)op;
	const struct table *table = self->table;
	struct heads heads = {0};
	PyObject *list;
	u64 pfn, max;
	int early = 1;
	bool done;

	if (!PyArg_ParseTuple(args, "O&O&|p:heads", as_u64, &pfn, as_u64, &max, &early))
		return NULL;
	BEGIN_LOOKING(self);
	done = find_heads(table, pfn, max, early, &heads);
	END_LOOKING(self);
	list = done ? number_list(heads.pfns, heads.nr) : PyErr_NoMemory();
	free(heads.pfns);
	return list;
}

/* The place of the record of a page; table->end: it has none. */
static u64 place_of(const struct table *table, u64 pfn)
{
	return table_is_empty(table) ? table->end : table->ops->find(table, pfn);
}

static PyObject *table_has_page(PyObject *op, PyObject *arg)
{
	TableObject *self = (TableObject *)op;
	const struct table *table = self->table;
	u64 pfn;
	bool is_there;

	if (!as_u64(arg, &pfn))
		return NULL;
	BEGIN_LOOKING(self);
	is_there = place_of(table, pfn) < table->end;
	END_LOOKING(self);
	return PyBool_FromLong(is_there);
}

enum look { LOOK_NONE, LOOK_FOUND, LOOK_NOMEM };

/* The record of a page, with its info. */
static enum look look_at(const struct table *table, u64 pfn, struct record *record, bool *allocated)
{
	struct lookahead *ahead = NULL;
	u64 at = place_of(table, pfn);
	bool done;

	if (at >= table->end)
		return LOOK_NONE;
	*allocated = table->ops->copy(table, at, record);
	done = table->ops->info(table, record, &ahead, 1);
	free(ahead);
	return done ? LOOK_FOUND : LOOK_NOMEM;
}

static PyObject *table_page(PyObject *op, PyObject *arg)
{
	TableObject *self = (TableObject *)op;
	const struct table *table = self->table;
	struct record record = {0};
	bool allocated = false;
	enum look look;
	u64 pfn, head;

	if (!as_u64(arg, &pfn))
		return NULL;
	BEGIN_LOOKING(self);
	look = look_at(table, pfn, &record, &allocated);
	END_LOOKING(self);
	if (look == LOOK_NOMEM)
		return PyErr_NoMemory();
	if (look == LOOK_NONE)
		Py_RETURN_NONE;
	head = record.pfn;
	if (allocated && table->by_page)
		head &= ~((1ULL << (record.owner.order & 63)) - 1);
	return Py_BuildValue("(KOy#KKii)", head, allocated ? Py_True : Py_False,
			     (const char *)&record.owner, (Py_ssize_t)sizeof(record.owner),
			     record.flags, record.memcg, record.block_mt, record.page_mt);
}

static PyMethodDef table_methods[] = {
	{"count_stacks", (PyCFunction)(void (*)(void))table_count_stacks,
	 METH_VARARGS | METH_KEYWORDS,
	 "count_stacks(*, early=False) -> list of (handle, nr_base_pages, ts_nsec of the oldest "
	 "page); makes a pass over the table."},
	{"heads", table_heads, METH_VARARGS,
	 "heads(pfn, nr, early=True) -> PFNs of up to nr allocated blocks, from pfn on."},
	{"has_page", table_has_page, METH_O, "has_page(pfn) -> does the table have this page?"},
	{"page", table_page, METH_O,
	 "page(pfn) -> what is known about a page, see PageExt in mm/page_ext.py, or None."},
	{"snapshot", table_snapshot, METH_O,
	 "snapshot(max_bytes) -> RecordTable; OSError ENOSPC if it would take more."},
	{"mixed_blocks", table_mixed_blocks, METH_VARARGS,
	 "mixed_blocks(start_pfn, end_pfn, cma, nid=-1, zone=-1) -> number of pageblocks with "
	 "owners of another type, by migratetype."},
	{"states", table_states, METH_NOARGS,
	 "states() -> numbers of pages, see PageCounts in mm/page_ext.py; makes a pass over the "
	 "table."},
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
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.tp_doc = "The records of one source.",
	.tp_methods = table_methods,
	.tp_getset = table_getset,
};
