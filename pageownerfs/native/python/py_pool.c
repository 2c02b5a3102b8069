// SPDX-License-Identifier: MIT
/*
 * py_pool.c - Pool: one attachment to a pool.
 */
#include "python/py.h"

int pool_usable(PoolObject *self)
{
	if (likely(!self->closed))
		return 0;
	PyErr_SetString(PyExc_ValueError, "the pool is closed");
	return -1;
}

/* Raise an OSError of the pool's file; returns NULL. */
PyObject *pool_os_error(PoolObject *self, int number, const char *text)
{
	PyObject *args = Py_BuildValue("isO", number, text, self->path);

	if (args) {
		PyErr_SetObject(PyExc_OSError, args);
		Py_DECREF(args);
	}
	return NULL;
}

/* Raise what a negative result of the allocator means; returns NULL. */
PyObject *pool_error(PoolObject *self, int error, u32 pfn, int order)
{
	PyObject *exception;

	switch (-error) {
	case EBUSY:
		return pool_os_error(
			self, EBUSY,
			"a client of the pool is stopped inside the allocator and holds it up; "
			"`pageownerfs status` lists the clients");
	case EUSERS:
		return pool_os_error(self, EUSERS, "the pool has as many clients as it can have");
	case BAD_PFN:
	case BAD_FREE:
	case BAD_TAIL:
	case BAD_ORDER:
	case BAD_COMPOUND:
	case BAD_COUNT:
		exception = PyObject_CallMethod((PyObject *)self, "_bad_page", "iIi", -error, pfn,
						order);
		if (exception) {
			PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
			Py_DECREF(exception);
		}
		return NULL;
	default:
		errno = -error;
		return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, self->path);
	}
}

static PyObject *alloc_error(PoolObject *self, int error, unsigned int order, u32 gfp_mask)
{
	PyObject *exception;

	if (error == -EINVAL) {
		if (gfp_mask & __GFP_NOFAIL)
			return PyErr_Format(PyExc_ValueError,
					    "gfp_mask 0x%x: __GFP_NOFAIL is refused, a pool can't "
					    "promise not to fail",
					    gfp_mask);
		return PyErr_Format(PyExc_ValueError,
				    "gfp_mask 0x%x: contradicts itself (more than one of "
				    "__GFP_DMA, __GFP_DMA32 and "
				    "__GFP_HIGHMEM, or both __GFP_MOVABLE and __GFP_RECLAIMABLE)",
				    gfp_mask);
	}
	if (error != -ENOMEM && error != -ENOSPC)
		return pool_error(self, error, 0, (int)order);
	exception = PyObject_CallMethod((PyObject *)self, "_out_of_memory", "IIi", order, gfp_mask,
					-error);
	if (exception) {
		PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
		Py_DECREF(exception);
	}
	return NULL;
}

void pool_drop_user(PoolObject *self)
{
	self->users--;
	if (self->closed && self->users == 0)
		pool_unmap(&self->pool);
}

static void close_pool(PoolObject *self)
{
	if (self->closed)
		return;
	pool_unregister(&self->pool);
	pool_unlink(&self->pool);
	self->closed = true;
	if (self->users == 0)
		pool_unmap(&self->pool);
}

static PyObject *pool_close(PyObject *op, PyObject *Py_UNUSED(unused))
{
	close_pool((PoolObject *)op);
	Py_RETURN_NONE;
}

static void pool_dealloc(PyObject *op)
{
	PoolObject *self = (PoolObject *)op;

	if (self->pool.base)
		close_pool(self);
	pystack_free(self->stacks);
	Py_XDECREF(self->path);
	Py_TYPE(op)->tp_free(op);
}

static PoolObject *pool_alloc_object(PyTypeObject *type, PyObject *path)
{
	PoolObject *self = (PoolObject *)type->tp_alloc(type, 0);

	if (!self)
		return NULL;
	self->pool.fd = -1;
	self->closed = true;
	self->path = Py_NewRef(path);
	self->stacks = pystack_new();
	if (!self->stacks) {
		Py_DECREF(self);
		PyErr_NoMemory();
		return NULL;
	}
	return self;
}

static PyObject *pool_opened(PoolObject *self, int error)
{
	if (!error) {
		self->closed = false;
		pool_link(&self->pool);
		return (PyObject *)self;
	}
	if (error == -EMEDIUMTYPE)
		PyErr_Format(PyExc_ValueError, "%U: not a pool", self->path);
	else if (error == -EPROTO)
		PyErr_Format(PyExc_ValueError, "%U: a pool of another version of pageownerfs",
			     self->path);
	else if (error == -EUCLEAN)
		PyErr_Format(PyExc_ValueError, "%U: the header of the pool is corrupt", self->path);
	else
		pool_error(self, error, 0, 0);
	Py_DECREF(self);
	return NULL;
}

static int check_config(const struct pool_config *config, u64 stack_depth)
{
	if (config->size < 64 * PAGE_SIZE || config->size > (u64)MAX_NR_PAGES / 2 * PAGE_SIZE)
		PyErr_Format(PyExc_ValueError, "size %llu: must be 256 KiB to %llu GiB",
			     config->size, (u64)MAX_NR_PAGES / 2 * PAGE_SIZE >> 30);
	else if (config->movablecore >= config->size)
		PyErr_Format(PyExc_ValueError, "movablecore %llu: must be less than size, %llu",
			     config->movablecore, config->size);
	else if (config->cma > config->size - config->movablecore)
		PyErr_Format(PyExc_ValueError, "cma %llu: must fit below zone Movable",
			     config->cma);
	else if (stack_depth < 1 || stack_depth > MAX_STACK_DEPTH)
		PyErr_Format(PyExc_ValueError, "stack_depth %llu: must be 1..%d", stack_depth,
			     MAX_STACK_DEPTH);
	else if (config->stack_depot_bytes < 64 << 10 || config->stack_depot_bytes > 64ULL << 30)
		PyErr_Format(PyExc_ValueError, "stack_depot %llu: must be 64 KiB to 64 GiB",
			     config->stack_depot_bytes);
	else
		return 0;
	return -1;
}

static PyObject *pool_create_method(PyObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {
		"path", "size", "movablecore", "cma", "stack_depth", "stack_depot_bytes", NULL};
	struct pool_config config = {0};
	PyObject *path, *name;
	PoolObject *self = NULL;
	u64 stack_depth;
	int error;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UO&O&O&O&O&:create", names, &path, as_u64,
					 &config.size, as_u64, &config.movablecore, as_u64,
					 &config.cma, as_u64, &stack_depth, as_u64,
					 &config.stack_depot_bytes))
		return NULL;
	if (check_config(&config, stack_depth))
		return NULL;
	config.stack_depth = (u32)stack_depth;
	/*
	 * Whatever bytes a file's name has: the encoding of those that are no text, errors for NUL.
	 */
	if (!PyUnicode_FSConverter(path, &name))
		return NULL;
	self = pool_alloc_object((PyTypeObject *)type, path);
	if (self) {
		const char *file = PyBytes_AS_STRING(name);

		Py_BEGIN_ALLOW_THREADS error = pool_create(&self->pool, file, &config);
		Py_END_ALLOW_THREADS self = (PoolObject *)pool_opened(self, error);
	}
	Py_DECREF(name);
	return (PyObject *)self;
}

static PyObject *pool_open_method(PyObject *type, PyObject *path)
{
	PyObject *name, *result = NULL;
	PoolObject *self;

	if (!PyUnicode_Check(path))
		return PyErr_Format(PyExc_TypeError, "a path is str, not %.100s",
				    Py_TYPE(path)->tp_name);
	if (!PyUnicode_FSConverter(path, &name))
		return NULL;
	self = pool_alloc_object((PyTypeObject *)type, path);
	if (self)
		result = pool_opened(self, pool_open(&self->pool, PyBytes_AS_STRING(name)));
	Py_DECREF(name);
	return result;
}

/* The caller's stack, if tracking is on. */
static inline u32 save_stack(PoolObject *self)
{
	if (likely(!(atomic_load_explicit(&self->pool.header->gate, memory_order_relaxed) &
		     GATE_PAGE_OWNER)))
		return 0;
	return pystack_save(self->stacks, &self->pool, self->pool.stack_depth);
}

static PyObject *pool_alloc_pages(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
				  PyObject *kwnames)
{
	static const char *const names[2] = {"order", "gfp_mask"};
	PoolObject *self = (PoolObject *)op;
	PyObject *values[2] = {NULL, NULL};
	u32 order = 0, gfp_mask = GFP_KERNEL, pfn;
	PageObject *page;
	int error;

	if (unlikely(pool_usable(self)) ||
	    parse_two("alloc_pages", names, args, nargs, kwnames, values) ||
	    (values[0] && as_u32_max(values[0], "order", MAX_PAGE_ORDER, &order)) ||
	    (values[1] && as_u32(values[1], "gfp_mask", &gfp_mask)))
		return NULL;
	do /* once more when tracking is switched on right here */
		error = alloc_pages(&self->pool, order, gfp_mask, save_stack(self), &pfn);
	while (unlikely(error == -EAGAIN));
	if (unlikely(error))
		return alloc_error(self, error, order, gfp_mask);
	page = page_new(self, pfn, order);
	if (unlikely(!page))
		free_pages(&self->pool, pfn, -1, save_stack(self));
	return (PyObject *)page;
}

/* A Page of this pool, or a PFN. */
static int page_argument(PoolObject *self, PyObject *arg, PageObject **page, u32 *pfn)
{
	if (likely(Py_IS_TYPE(arg, &Page_Type))) {
		*page = (PageObject *)arg;
		*pfn = (*page)->pfn;
		if (unlikely((*page)->pool != self)) {
			if (PyUnicode_Compare((*page)->pool->path, self->path) == 0)
				return 0; /* another attachment to the same pool */
			PyErr_Format(PyExc_ValueError, "PFN 0x%x: a page of another pool", *pfn);
			return -1;
		}
		return 0;
	}
	*page = NULL;
	if (!PyLong_Check(arg)) {
		PyErr_Format(PyExc_TypeError, "a Page or a PFN is needed, not %.100s",
			     Py_TYPE(arg)->tp_name);
		return -1;
	}
	return as_u32(arg, "PFN", pfn);
}

static PyObject *drop_reference(PoolObject *self, PyObject *arg, int order)
{
	PageObject *page;
	int error;
	u32 pfn;

	if (unlikely(page_argument(self, arg, &page, &pfn)))
		return NULL;
	if (page) {
		if (unlikely(page->references == 0))
			return pool_error(self, -BAD_FREE, pfn, page->order);
		if (order < 0)
			order = page->order;
		if (page->references == 1 && unlikely(page_release_buffer(page)))
			return NULL;
	}
	do
		error = free_pages(&self->pool, pfn, order, save_stack(self));
	while (unlikely(error == -EAGAIN));
	if (unlikely(error))
		return pool_error(self, error, pfn, order);
	if (page)
		page->references--;
	Py_RETURN_NONE;
}

static PyObject *pool_free_pages(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
				 PyObject *kwnames)
{
	static const char *const names[2] = {"page", "order"};
	PoolObject *self = (PoolObject *)op;
	PyObject *values[2] = {NULL, NULL};
	u32 order = 0;

	if (unlikely(pool_usable(self)) ||
	    parse_two("free_pages", names, args, nargs, kwnames, values))
		return NULL;
	if (unlikely(!values[0]))
		return PyErr_Format(PyExc_TypeError, "free_pages() needs a page");
	if (values[1] && values[1] != Py_None) {
		if (as_u32_max(values[1], "order", MAX_PAGE_ORDER, &order))
			return NULL;
		return drop_reference(self, values[0], (int)order);
	}
	return drop_reference(self, values[0], -1);
}

static PyObject *pool_put_page(PyObject *op, PyObject *arg)
{
	return pool_usable((PoolObject *)op) ? NULL : drop_reference((PoolObject *)op, arg, -1);
}

static PyObject *pool_get_page(PyObject *op, PyObject *arg)
{
	PoolObject *self = (PoolObject *)op;
	PageObject *page;
	int error;
	u32 pfn;

	if (pool_usable(self) || page_argument(self, arg, &page, &pfn))
		return NULL;
	if (page && page->references == 0)
		return pool_error(self, -BAD_FREE, pfn, page->order);
	error = get_page(&self->pool, pfn);
	if (error)
		return pool_error(self, error, pfn, 0);
	if (page)
		page->references++;
	Py_RETURN_NONE;
}

static PyObject *pool_page_count(PyObject *op, PyObject *arg)
{
	PoolObject *self = (PoolObject *)op;
	PageObject *page;
	u32 pfn;

	if (pool_usable(self) || page_argument(self, arg, &page, &pfn))
		return NULL;
	if (allocated_order(&self->pool, pfn) < 0)
		return PyLong_FromLong(0);
	return PyLong_FromUnsignedLong(word_count(page_word(&self->pool, pfn)));
}

static PyObject *pool_page(PyObject *op, PyObject *arg)
{
	PoolObject *self = (PoolObject *)op;
	int order;
	u32 pfn;

	if (pool_usable(self) || as_u32(arg, "PFN", &pfn))
		return NULL;
	order = allocated_order(&self->pool, pfn);
	if (order < 0)
		return pool_error(self, order, pfn, 0);
	return (PyObject *)page_new(self, pfn, (unsigned int)order);
}

static PyObject *split_pages(PoolObject *self, PageObject *page, unsigned int order)
{
	Py_ssize_t nr = (Py_ssize_t)1 << (page->order - order);
	PyObject *pages = PyList_New(nr);
	int error;

	if (!pages)
		return NULL;
	/* All objects first: once the block is split, nothing may fail. */
	PyList_SET_ITEM(pages, 0, Py_NewRef((PyObject *)page));
	for (Py_ssize_t i = 1; i < nr; i++) {
		PageObject *part = page_new(self, page->pfn + (u32)(i << order), order);

		if (!part) {
			Py_DECREF(pages);
			return NULL;
		}
		PyList_SET_ITEM(pages, i, (PyObject *)part);
	}
	error = split_page(&self->pool, page->pfn, order);
	if (error) {
		Py_DECREF(pages);
		return pool_error(self, error, page->pfn, page->order);
	}
	page->order = (u8)order;
	return pages;
}

static PyObject *pool_split_page(PyObject *op, PyObject *args)
{
	PoolObject *self = (PoolObject *)op;
	PyObject *arg = NULL;
	PageObject *page;
	u32 order = 0;

	if (pool_usable(self) ||
	    !PyArg_ParseTuple(args, "O!|O:split_page", &Page_Type, &page, &arg) ||
	    (arg && as_u32_max(arg, "order", MAX_PAGE_ORDER, &order)))
		return NULL;
	if (page->references == 0)
		return pool_error(self, -BAD_FREE, page->pfn, page->order);
	if (order > page->order)
		return PyErr_Format(PyExc_ValueError,
				    "order %u: PFN 0x%x has order %u, it can only become smaller",
				    order, page->pfn, page->order);
	if (page_release_buffer(page))
		return NULL;
	return split_pages(self, page, order);
}

static PyObject *pool_drain_local_pages(PyObject *op, PyObject *Py_UNUSED(unused))
{
	if (pool_usable((PoolObject *)op))
		return NULL;
	drain_local_pages(&((PoolObject *)op)->pool);
	Py_RETURN_NONE;
}

static PyObject *pool_get_path(PyObject *op, void *Py_UNUSED(closure))
{
	return Py_NewRef(((PoolObject *)op)->path);
}

static PyObject *pool_get_closed(PyObject *op, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(((PoolObject *)op)->closed);
}

static PyObject *pool_get_nr_pages(PyObject *op, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLong(((PoolObject *)op)->pool.nr_pages);
}

static PyObject *pool_get_stack_depth(PyObject *op, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLong(((PoolObject *)op)->pool.stack_depth);
}

static PyObject *pool_get_managed_pages(PyObject *op, void *Py_UNUSED(closure))
{
	u64 nr = 0;

	if (pool_usable((PoolObject *)op))
		return NULL;
	for (int zone = 0; zone < MAX_NR_ZONES; zone++)
		nr += ((PoolObject *)op)->pool.header->zones[zone].managed_pages;
	return PyLong_FromUnsignedLongLong(nr);
}

static PyObject *pool_get_page_owner_on(PyObject *op, void *Py_UNUSED(closure))
{
	if (pool_usable((PoolObject *)op))
		return NULL;
	return PyBool_FromLong(atomic_load(&((PoolObject *)op)->pool.header->gate) &
			       GATE_PAGE_OWNER);
}

static PyGetSetDef pool_getset[] = {
	{"path", pool_get_path, NULL, "The shared-memory file.", NULL},
	{"closed", pool_get_closed, NULL, "Has close() been called?", NULL},
	{"nr_pages", pool_get_nr_pages, NULL, "PFNs are [0, nr_pages).", NULL},
	{"managed_pages", pool_get_managed_pages, NULL,
	 "Pages that the allocator has, free or not.", NULL},
	{"page_owner_on", pool_get_page_owner_on, NULL, "Are owners tracked?", NULL},
	{"stack_depth", pool_get_stack_depth, NULL, "Frames kept of each stack, at most.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

#define FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef pool_methods[] = {
	{"create", FASTCALL(pool_create_method), METH_CLASS | METH_VARARGS | METH_KEYWORDS,
	 "Make a pool's file, which must not exist, and map it."},
	{"open", pool_open_method, METH_CLASS | METH_O, "Map an existing pool."},
	{"close", pool_close, METH_NOARGS,
	 "Give the order-0 lists back. Buffers in use stay valid."},
	{"alloc_pages", FASTCALL(pool_alloc_pages), METH_FASTCALL | METH_KEYWORDS,
	 "alloc_pages(order=0, gfp_mask=GFP_KERNEL) -> Page\n\n"
	 "2^order pages, as alloc_pages() of mm/page_alloc.c. OutOfMemoryError, ValueError."},
	{"free_pages", FASTCALL(pool_free_pages), METH_FASTCALL | METH_KEYWORDS,
	 "free_pages(page, order=None)\n\n"
	 "Drop a reference; the last one frees. BadPageError, BufferError. As __free_pages()."},
	{"page", pool_page, METH_O,
	 "page(pfn) -> Page\n\nAn allocated block, whoever allocated it. BadPageError."},
	{"get_page", pool_get_page, METH_O, "get_page(page)\n\nOne more reference."},
	{"put_page", pool_put_page, METH_O,
	 "put_page(page)\n\nDrop a reference; the last one frees."},
	{"page_count", pool_page_count, METH_O,
	 "page_count(page) -> int\n\nReferences; 0 if it is not allocated."},
	{"split_page", pool_split_page, METH_VARARGS,
	 "split_page(page, order=0) -> list of Page\n\n"
	 "Make blocks of order from one that is not compound. The first one is page itself."},
	{"drain_local_pages", pool_drain_local_pages, METH_NOARGS,
	 "Give this process's order-0 lists back."},
	{"capture_stack", pool_capture_stack, METH_VARARGS, "Handle of the caller's stack."},
	{"enable_page_owner", pool_enable_page_owner, METH_VARARGS,
	 "Switch tracking on; early pages per zone."},
	{"recover_clients", pool_recover, METH_NOARGS,
	 "Take back what dead clients held; their number."},
	{"report_free_pages", pool_report_free_pages, METH_NOARGS,
	 "Give free memory to the system; pages given."},
	{"zone_info", pool_zone_info, METH_NOARGS, "A dict for each zone."},
	{"client_info", pool_client_info, METH_NOARGS, "A dict for each client."},
	{"page_info", pool_page_info, METH_O,
	 "page_info(pfn) -> dict: all that is known of one page."},
	{"stats", pool_stats, METH_NOARGS, "Counters since the pool was made."},
	{"depot_stack", pool_depot_stack, METH_O,
	 "depot_stack(handle) -> list of frames, innermost first."},
	{"check", pool_check_all, METH_NOARGS,
	 "Check every invariant; the problems found, none is []."},
	{"freeze", pool_freeze_method, METH_NOARGS,
	 "Stop the clients between two operations, until thaw()."},
	{"thaw", pool_thaw_method, METH_NOARGS,
	 "Let the clients go on; by the thread that has stopped them."},
	{"stack_counts", pool_stack_counts, METH_NOARGS,
	 "(handle, nr_base_pages) of each stack that has allocated, the oldest first."},
	{"table", pool_table, METH_NOARGS, "What a Renderer reads."},
	{NULL, NULL, 0, NULL},
};

PyTypeObject Pool_Type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pageownerfs._native.Pool",
	.tp_basicsize = sizeof(PoolObject),
	.tp_dealloc = pool_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.tp_doc = "One attachment to a pool.",
	.tp_getset = pool_getset,
	.tp_methods = pool_methods,
};
