// SPDX-License-Identifier: MIT
/*
 * py_render.c - Renderer and Reader: render.c for Python.
 *
 * Rendering runs without the GIL. The mutex of a reader is also taken without the GIL. So a thread
 * that waits for the GIL to name a text never blocks one that waits for the reader.
 */
#include "base/clock.h"
#include "python/py.h"
#include "text/render.h"

typedef struct {
	PyObject_HEAD TableObject *table;
	PyObject *text; /* text(kind, value) -> bytes */
	struct text_cache *cache;
	struct flags_layout layout;
	/* size of the whole text at size_version of the table; 0: not known */
	u64 size, size_version;
	u64 size_nsec; /* when size was determined, for tables without a version */
	u8 fields;     /* TEXT_*; 0: as printed, or those of 6.12 */
} RendererObject;

typedef struct {
	PyObject_HEAD RendererObject *renderer;
	struct reader reader;
	pthread_mutex_t lock;
} ReaderObject;

/* Parse the (name, shift, width, base) of a field. 0, or -1 with the error. */
static int parse_flag_field(PyObject *item, struct flags_field *field)
{
	PyObject *tuple = PySequence_Tuple(item);
	int shift, width, base, done = -1;
	const char *name;
	Py_ssize_t size;

	if (!tuple ||
	    !PyArg_ParseTuple(tuple, "s#iii;a flags field must be (name, shift, width, base)",
			      &name, &size, &shift, &width, &base))
		goto out;
	if (size > FLAG_FIELD_NAME_MAX || shift < 0 || width < 1 || shift + width > 64 ||
	    (base != 10 && base != 16)) {
		PyErr_Format(PyExc_ValueError, "%R: not a field of 64 bits", tuple);
		goto out;
	}
	*field = (struct flags_field){
		.name_size = (u8)size, .shift = (u8)shift, .width = (u8)width, .hex = base == 16};
	memcpy(field->name, name, (size_t)size);
	done = 0;
out:
	Py_XDECREF(tuple);
	return done;
}

static int parse_layout(PyObject *fields, struct flags_layout *layout)
{
	PyObject *tuple = PySequence_Tuple(fields);
	Py_ssize_t nr = tuple ? PyTuple_GET_SIZE(tuple) : 0;

	if (nr > FLAG_FIELDS)
		PyErr_Format(PyExc_ValueError, "flags can have at most %d fields", FLAG_FIELDS);
	for (Py_ssize_t i = 0; i < nr && !PyErr_Occurred(); i++)
		parse_flag_field(PyTuple_GET_ITEM(tuple, i), &layout->fields[i]);
	layout->nr_fields = (u32)nr;
	Py_XDECREF(tuple);
	return PyErr_Occurred() ? -1 : 0;
}

static PyObject *renderer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"", "", "fields", "flags_mask", "flags_fields", NULL};
	PyObject *table, *text, *flags_fields = NULL;
	struct flags_layout layout = {.names_mask = ~0ULL};
	RendererObject *self;
	unsigned char fields = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O|$bO&O:Renderer", names, &Table_Type,
					 &table, &text, &fields, as_u64, &layout.names_mask,
					 &flags_fields) ||
	    (flags_fields && parse_layout(flags_fields, &layout)))
		return NULL;
	self = (RendererObject *)type->tp_alloc(type, 0);
	if (!self)
		return NULL;
	self->table = (TableObject *)Py_NewRef(table);
	self->text = Py_NewRef(text);
	self->fields = fields;
	self->layout = layout;
	self->cache = text_cache_new();
	if (!self->cache) {
		Py_DECREF(self);
		return PyErr_NoMemory();
	}
	return (PyObject *)self;
}

static int renderer_traverse(PyObject *op, visitproc visit, void *arg)
{
	Py_VISIT(((RendererObject *)op)->text);
	return 0;
}

static int renderer_clear(PyObject *op)
{
	Py_CLEAR(((RendererObject *)op)->text);
	return 0;
}

static void renderer_dealloc(PyObject *op)
{
	RendererObject *self = (RendererObject *)op;

	PyObject_GC_UnTrack(op);
	text_cache_put(self->cache);
	Py_XDECREF(self->text);
	Py_XDECREF(self->table);
	Py_TYPE(op)->tp_free(op);
}

/* Add a text to the cache. 0, or -1 with the error. */
static int cache_text(RendererObject *self, const struct text_miss *miss, const char *text,
		      size_t size)
{
	if (text_cache_full(self->cache)) {
		struct text_cache *empty = text_cache_new();

		if (empty) {
			text_cache_put(self->cache);
			self->cache = empty;
		}
	}
	if (text_cache_add(self->cache, miss->kind, miss->value, text, size))
		return 0;
	PyErr_NoMemory();
	return -1;
}

/*
 * Get a missing text and add it to the cache: what the dump had printed, or otherwise what Python
 * returns. If other fields are wanted than were printed, the format differs, and masks may be
 * printed differently, too.
 */
static int add_text(RendererObject *self, const struct text_miss *miss)
{
	struct string printed;
	PyObject *text;
	int error = -1;

	if (!(self->fields && miss->kind == TEXT_GFP) &&
	    table_text(self->table, miss->kind, miss->value, &printed))
		return cache_text(self, miss, printed.text, printed.size);
	text = PyObject_CallFunction(self->text, "iK", (int)miss->kind, miss->value);
	if (!text)
		return -1;
	if (PyBytes_Check(text))
		error = cache_text(self, miss, PyBytes_AS_STRING(text),
				   (size_t)PyBytes_GET_SIZE(text));
	else
		PyErr_Format(PyExc_TypeError, "text() must return bytes, not %.100s",
			     Py_TYPE(text)->tp_name);
	Py_DECREF(text);
	return error;
}

static void renderer_reader_init(const RendererObject *self, struct reader *reader)
{
	reader_init(reader, self->table->table, &self->layout);
	reader->fields = self->fields;
}

static PyObject *renderer_size(PyObject *op, PyObject *args)
{
	RendererObject *self = (RendererObject *)op;
	const struct table *table = self->table->table;
	u64 version = 0, total = 0, max_age_nsec = 0;
	bool has_version;
	struct reader reader;
	int result;

	if (!PyArg_ParseTuple(args, "|O&:size", as_u64, &max_age_nsec))
		return NULL;
	if (table_is_empty(table))
		return PyLong_FromLong(0);
	has_version = table->ops->version(table, &version);
	if (has_version ? self->size_version == version
			: self->size_nsec && ktime_get_ns() - self->size_nsec < max_age_nsec)
		return PyLong_FromUnsignedLongLong(self->size);
	renderer_reader_init(self, &reader);
	do {
		struct text_cache *cache = text_cache_get(self->cache);

		BEGIN_LOOKING(self->table);
		result = render_size(&reader, cache, &total);
		END_LOOKING(self->table);
		text_cache_put(cache);
		if (result == RENDER_MISS && add_text(self, &reader.miss))
			break;
	} while (result == RENDER_MISS);
	reader_free(&reader);
	if (result == RENDER_NOMEM)
		PyErr_NoMemory();
	if (result)
		return NULL;
	if (!has_version) {
		self->size = total;
		self->size_nsec = ktime_get_ns();
	} else {
		u64 now = 0;

		table->ops->version(table, &now);
		if (now == version) {
			self->size = total;
			self->size_version = version;
		}
	}
	return PyLong_FromUnsignedLongLong(total);
}

static PyObject *renderer_reader(PyObject *op, PyObject *Py_UNUSED(unused))
{
	ReaderObject *self = PyObject_New(ReaderObject, &Reader_Type);

	if (!self)
		return NULL;
	self->renderer = (RendererObject *)Py_NewRef(op);
	renderer_reader_init(self->renderer, &self->reader);
	pthread_mutex_init(&self->lock, NULL);
	return (PyObject *)self;
}

static PyMethodDef renderer_methods[] = {
	{"size", renderer_size, METH_VARARGS,
	 "size(max_age_nsec=0) -> length of the whole text; for a KernelTable the last result is "
	 "reused up to this age."},
	{"reader", renderer_reader, METH_NOARGS, "A position in the text."},
	{NULL, NULL, 0, NULL},
};

PyTypeObject Renderer_Type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pageownerfs._native.Renderer",
	.tp_basicsize = sizeof(RendererObject),
	.tp_dealloc = renderer_dealloc,
	.tp_traverse = renderer_traverse,
	.tp_clear = renderer_clear,
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.tp_doc = "Renderer(table, text, *, fields=0, flags_mask=2**64-1, flags_fields=())\n\n"
		  "Renders records as text. Calls text(kind, value) -> bytes once for each text it "
		  "needs.",
	.tp_methods = renderer_methods,
	.tp_new = renderer_new,
};

static void reader_dealloc(PyObject *op)
{
	ReaderObject *self = (ReaderObject *)op;

	reader_free(&self->reader);
	pthread_mutex_destroy(&self->lock);
	Py_DECREF(self->renderer);
	PyObject_Free(self);
}

/* Read into out. Returns the number of bytes, or -1 with an exception. */
static Py_ssize_t read_out(ReaderObject *self, char *out, Py_ssize_t size, u64 offset)
{
	RendererObject *renderer = self->renderer;
	Py_ssize_t done = 0;
	long result;
	bool fill;

	Py_BEGIN_ALLOW_THREADS;
	pthread_mutex_lock(&self->lock);
	Py_END_ALLOW_THREADS;
	/* Programs that seek, such as tail, take a short read for the end of the file. */
	fill = offset != self->reader.read_end;
	for (;;) {
		struct text_cache *cache = text_cache_get(renderer->cache);

		BEGIN_LOOKING(renderer->table);
		self->reader.miss.kind = NR_TEXT_KINDS;
		result = reader_read(&self->reader, cache, out + done, (size_t)(size - done),
				     offset + (u64)done, fill);
		END_LOOKING(renderer->table);
		text_cache_put(cache);
		if (result > 0)
			done += result;
		/* Continue only if a text was missing and there is still room. */
		if (result == RENDER_NOMEM || self->reader.miss.kind == NR_TEXT_KINDS)
			break;
		if (add_text(renderer, &self->reader.miss)) {
			done = -1;
			break;
		}
		if (!fill && done && size - done <= 4096)
			break; /* the rest would look like a small buffer */
	}
	if (done >= 0)
		self->reader.read_end = offset + (u64)done;
	pthread_mutex_unlock(&self->lock);
	if (result == RENDER_NOMEM) {
		PyErr_NoMemory();
		return -1;
	}
	return done;
}

/* Parse an offset in the text. 0, or -1 with the error. */
static int offset_argument(PyObject *arg, u64 *offset)
{
	*offset = PyLong_AsUnsignedLongLong(arg);
	if (PyErr_Occurred())
		return -1;
	if (*offset > (u64)1 << 62) {
		PyErr_SetString(PyExc_ValueError, "offset must be at most 2**62");
		return -1;
	}
	return 0;
}

static PyObject *reader_read_method(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
	Py_ssize_t size, done;
	PyObject *bytes;
	u64 offset;

	if (nargs != 2)
		return PyErr_Format(PyExc_TypeError, "read() takes size and offset");
	size = PyLong_AsSsize_t(args[0]);
	if (PyErr_Occurred() || offset_argument(args[1], &offset))
		return NULL;
	if (size < 0)
		return PyErr_Format(PyExc_ValueError, "size must not be negative");
	bytes = PyBytes_FromStringAndSize(NULL, size);
	if (!bytes)
		return NULL;
	done = read_out((ReaderObject *)op, PyBytes_AS_STRING(bytes), size, offset);
	if (done < 0)
		Py_CLEAR(bytes);
	else if (done != size)
		_PyBytes_Resize(&bytes, done);
	return bytes;
}

static PyObject *reader_read_into(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
	Py_ssize_t done;
	Py_buffer buffer;
	u64 offset;

	if (nargs != 2)
		return PyErr_Format(PyExc_TypeError, "read_into() takes a buffer and offset");
	if (offset_argument(args[1], &offset) ||
	    PyObject_GetBuffer(args[0], &buffer, PyBUF_WRITABLE))
		return NULL;
	done = read_out((ReaderObject *)op, buffer.buf, buffer.len, offset);
	PyBuffer_Release(&buffer);
	return done < 0 ? NULL : PyLong_FromSsize_t(done);
}

static PyObject *reader_record(PyObject *op, PyObject *arg)
{
	ReaderObject *self = (ReaderObject *)op;
	RendererObject *renderer = self->renderer;
	u64 pfn = PyLong_AsUnsignedLongLong(arg);
	PyObject *pair = NULL;
	long size;

	if (pfn == (u64)-1 && PyErr_Occurred())
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	pthread_mutex_lock(&self->lock);
	Py_END_ALLOW_THREADS;
	do {
		struct text_cache *cache = text_cache_get(renderer->cache);

		BEGIN_LOOKING(renderer->table);
		size = render_record(&self->reader, cache, &pfn);
		END_LOOKING(renderer->table);
		text_cache_put(cache);
		if (size == RENDER_MISS && add_text(renderer, &self->reader.miss))
			goto out;
	} while (size == RENDER_MISS);
	if (size == 0)
		pair = Py_NewRef(Py_None);
	else if (size < 0)
		PyErr_NoMemory();
	else
		pair = Py_BuildValue("y#K", self->reader.record, (Py_ssize_t)size, pfn);
out:
	pthread_mutex_unlock(&self->lock);
	return pair;
}

/* Parse a sequence of pids. Returns their number, or -1 with the error. */
static int parse_pids(PyObject *list, s32 pids[FILTER_PIDS])
{
	PyObject *tuple = PySequence_Tuple(list);
	Py_ssize_t nr = tuple ? PyTuple_GET_SIZE(tuple) : 0;

	if (nr > FILTER_PIDS)
		PyErr_Format(PyExc_ValueError, "at most %d pids are allowed", FILTER_PIDS);
	for (Py_ssize_t i = 0; i < nr && !PyErr_Occurred(); i++)
		as_pid(PyTuple_GET_ITEM(tuple, i), &pids[i]);
	Py_XDECREF(tuple);
	return PyErr_Occurred() ? -1 : (int)nr;
}

static int parse_nids(PyObject *list, u64 nids[FILTER_NODES / 64])
{
	PyObject *tuple = PySequence_Tuple(list);

	for (Py_ssize_t i = 0; tuple && i < PyTuple_GET_SIZE(tuple) && !PyErr_Occurred(); i++) {
		long nid = PyLong_AsLong(PyTuple_GET_ITEM(tuple, i));

		if (nid < 0 || nid >= FILTER_NODES)
			PyErr_SetString(PyExc_ValueError, "invalid node number");
		else
			nids[nid / 64] |= 1ULL << nid % 64;
	}
	Py_XDECREF(tuple);
	return PyErr_Occurred() ? -1 : 0;
}

static PyObject *reader_set_filter_method(PyObject *op, PyObject *args)
{
	ReaderObject *self = (ReaderObject *)op;
	struct record_filter filter = {0};
	PyObject *nids, *pids, *tgids;
	int mode, nr_pids, nr_tgids;

	if (!PyArg_ParseTuple(args, "iOOO:set_filter", &mode, &nids, &pids, &tgids))
		return NULL;
	if (mode < PRINT_STACK || mode > PRINT_STACK_HANDLE)
		return PyErr_Format(PyExc_ValueError, "%d: not a print mode", mode);
	nr_pids = parse_pids(pids, filter.pids);
	nr_tgids = nr_pids < 0 ? -1 : parse_pids(tgids, filter.tgids);
	if (nr_tgids < 0 || (nids != Py_None && parse_nids(nids, filter.nids)))
		return NULL;
	filter.by_nid = nids != Py_None;
	filter.nr_pids = (u32)nr_pids;
	filter.nr_tgids = (u32)nr_tgids;
	filter.by_process = nr_pids || nr_tgids;
	Py_BEGIN_ALLOW_THREADS;
	pthread_mutex_lock(&self->lock);
	Py_END_ALLOW_THREADS;
	reader_set_filter(&self->reader, &filter, (enum print_mode)mode);
	pthread_mutex_unlock(&self->lock);
	Py_RETURN_NONE;
}

#define FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef reader_methods[] = {
	{"record", reader_record, METH_O,
	 "record(pfn) -> (text, next pfn) of the first record at or after pfn, or None."},
	{"set_filter", reader_set_filter_method, METH_VARARGS,
	 "set_filter(mode, nids, pids, tgids): what to show from here on; nids None: all nodes."},
	{"read", FASTCALL(reader_read_method), METH_FASTCALL, "read(size, offset) -> bytes"},
	{"read_into", FASTCALL(reader_read_into), METH_FASTCALL,
	 "read_into(buffer, offset) -> number of bytes"},
	{NULL, NULL, 0, NULL},
};

PyTypeObject Reader_Type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pageownerfs._native.Reader",
	.tp_basicsize = sizeof(ReaderObject),
	.tp_dealloc = reader_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.tp_doc = "A position in the text: one open file.",
	.tp_methods = reader_methods,
};
