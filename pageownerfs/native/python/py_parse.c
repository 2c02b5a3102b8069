// SPDX-License-Identifier: MIT
/*
 * py_parse.c - parse_page_owner(): one record of a text, or what is wrong with it.
 */
#include "python/py.h"
#include "text/stack_text.h"

PyObject *damage_list(const struct text_walk *walk)
{
	PyObject *list = PyList_New(0);

	for (u64 i = 0; list && i < walk->nr_damaged && i < NR_DAMAGE; i++) {
		const struct text_damage *damage = &walk->damage[i];
		PyObject *item =
			Py_BuildValue("KKs", damage->offset, damage->record, damage->reason);

		if (!item || PyList_Append(list, item))
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	return list;
}

static PyObject *optional(bool has, PyObject *value)
{
	if (has || !value)
		return value;
	Py_DECREF(value);
	return Py_NewRef(Py_None);
}

static PyObject *build_record(const struct text_record *record)
{
	const char *header_end = record->fields & TEXT_HAS_PFN ? record->pfn_line : record->stack;
	PyObject *stack;

	if (record->ragged) {
		stack = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)record->stack_size + 1);
		if (stack)
			_PyBytes_Resize(&stack, (Py_ssize_t)text_copy_stack(
							record, PyBytes_AS_STRING(stack)));
	} else {
		stack = PyBytes_FromStringAndSize(record->stack, (Py_ssize_t)record->stack_size);
	}
	return Py_BuildValue(
		"iy#NNNNNNy#y#N", record->order, record->mask, (Py_ssize_t)record->mask_size,
		optional(record->fields & TEXT_HAS_PID, PyLong_FromLong(record->pid)),
		optional(record->fields & TEXT_HAS_TGID, PyLong_FromLong(record->tgid)),
		optional(record->fields & TEXT_HAS_TGID,
			 PyBytes_FromStringAndSize(record->comm, record->comm_size)),
		optional(record->fields & TEXT_HAS_TS,
			 PyLong_FromUnsignedLongLong(record->ts_nsec)),
		optional(record->fields & TEXT_HAS_FREE_TS,
			 PyLong_FromUnsignedLongLong(record->free_ts_nsec)),
		optional(record->fields & TEXT_HAS_PFN, PyLong_FromUnsignedLongLong(record->pfn)),
		record->start, (Py_ssize_t)(header_end - record->start), record->pfn_line,
		(Py_ssize_t)record->pfn_line_size, stack);
}

PyObject *parse_page_owner(PyObject *Py_UNUSED(module), PyObject *args)
{
	struct text_record record;
	struct text_hint hint = {0};
	enum text_status status;
	PyObject *result = NULL;
	const char *p, *end;
	Py_ssize_t offset;
	Py_buffer text;
	int final, in_damage;
	bool ended = true;

	if (!PyArg_ParseTuple(args, "y*npp", &text, &offset, &final, &in_damage))
		return NULL;
	if (offset < 0 || offset > text.len) {
		PyErr_SetString(PyExc_ValueError, "offset is outside the text");
		goto out;
	}
	p = (const char *)text.buf + offset;
	end = (const char *)text.buf + text.len;
	if (in_damage)
		p = text_skip_damage(p, end, final, &ended);
	status = ended ? text_parse_head(&p, end, final, &hint, &record) : TEXT_MORE;
	if (status == TEXT_RECORD)
		status = text_parse_stack(end, final, &record);
	offset = p - (const char *)text.buf;
	if (status == TEXT_RECORD)
		result = Py_BuildValue("nnN", offset, record.end - (const char *)text.buf,
				       build_record(&record));
	else if (status == TEXT_DAMAGED)
		result = Py_BuildValue("nns", offset, offset + 1, record.damage);
	else
		result = Py_BuildValue("nOO", offset, Py_None, ended ? Py_False : Py_True);
out:
	PyBuffer_Release(&text);
	return result;
}
