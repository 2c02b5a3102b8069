// SPDX-License-Identifier: MIT
/*
 * py_pool.c - Pool: one attachment to a pool.
 */
#include "base/clock.h"
#include "pool/lock.h"
#include "pool/map.h"
#include "pool/page_ref.h"
#include "pool/reclaim.h"
#include "python/py.h"

/* How often a waiting thread checks for signals. */
#define SIGNALS_NSEC 50000000

int pool_usable(PoolObject *self)
{
	if (likely(!self->closed))
		return 0;
	PyErr_SetString(PyExc_ValueError, "the pool is closed");
	return -1;
}

PyObject *pool_os_error(PoolObject *self, int number, const char *text)
{
	PyObject *args = Py_BuildValue("isO", number, text, self->path);

	if (args) {
		PyErr_SetObject(PyExc_OSError, args);
		Py_DECREF(args);
	}
	return NULL;
}

PyObject *pool_error(PoolObject *self, int error, u32 pfn, int order)
{
	PyObject *exception;

	switch (-error) {
	case EBUSY:
	case ENOTRECOVERABLE:
		return pool_os_error(
			self, EBUSY,
			"a client of the pool is stopped inside the allocator and blocks it; "
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

void pool_drop_user(PoolObject *self)
{
	self->users--;
	if (self->closed && self->users == 0)
		pool_unmap(&self->pool);
}

int pool_try_again(PoolObject *self, int *error, bool drain)
{
	u64 end = ktime_get_ns() + PATIENCE_NSEC;
	int result, stop;

	if (*error == -EAGAIN)
		return 0;
	if (!drain && (*error == -ENOMEM || *error == -ENOSPC))
		return 1;
	self->users++;
	do {
		Py_BEGIN_ALLOW_THREADS;
		result = reclaim(&self->pool, *error, SIGNALS_NSEC);
		Py_END_ALLOW_THREADS;
		stop = PyErr_CheckSignals() || pool_usable(self);
	} while (result == -EBUSY && !stop && ktime_get_ns() < end);
	pool_drop_user(self);
	if (stop)
		return -1;
	*error = result;
	return result ? 1 : 0;
}

/*
 * Call a method that releases the GIL or may run Python code, so that a close() in another thread
 * does not unmap the pool.
 */
static PyObject *call_held(PyCFunction method, PyObject *op, PyObject *arg)
{
	PoolObject *self = (PoolObject *)op;
	PyObject *result;

	if (pool_usable(self))
		return NULL;
	self->users++;
	result = method(op, arg);
	pool_drop_user(self);
	return result;
}

#define HELD(method)                                                                               \
	static PyObject *held_##method(PyObject *op, PyObject *arg)                                \
	{                                                                                          \
		return call_held(method, op, arg);                                                 \
	}
HELD(pool_drain_local_pages)
HELD(pool_capture_stack)
HELD(pool_enable_page_owner)
HELD(pool_recover)
HELD(pool_report_free_pages)
HELD(pool_freeze_method)
HELD(pool_zone_info)
HELD(pool_client_info)
HELD(pool_page_info)
HELD(pool_stats)
HELD(pool_depot_stack)
HELD(pool_stack_counts)
HELD(pool_check_all)

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
	 "Pages managed by the allocator, free or not.", NULL},
	{"page_owner_on", pool_get_page_owner_on, NULL, "Is page_owner on?", NULL},
	{"stack_depth", pool_get_stack_depth, NULL, "Maximum number of frames kept per stack.",
	 NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

#define FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef pool_methods[] = {
	{"create", FASTCALL(pool_create_method), METH_CLASS | METH_VARARGS | METH_KEYWORDS,
	 "Create a pool's file, which must not exist, and map it."},
	{"open", pool_open_method, METH_CLASS | METH_O, "Map an existing pool."},
	{"close", pool_close, METH_NOARGS,
	 "Free the order-0 lists and detach. Buffers in use stay valid, and calls in progress in\n"
	 "other threads complete; later calls raise ValueError."},
	{"alloc_pages", FASTCALL(pool_alloc_pages), METH_FASTCALL | METH_KEYWORDS,
	 "alloc_pages(order=0, gfp_mask=GFP_KERNEL) -> Page\n\n"
	 "Allocate 2^order pages, like alloc_pages() of mm/page_alloc.c. Raises "
	 "OutOfMemoryError,\n"
	 "ValueError."},
	{"free_pages", FASTCALL(pool_free_pages), METH_FASTCALL | METH_KEYWORDS,
	 "free_pages(page, order=None)\n\n"
	 "Drop a reference, like __free_pages(); the last one frees the block. Raises\n"
	 "BadPageError, BufferError."},
	{"page", pool_page, METH_O,
	 "page(pfn) -> Page\n\nAn allocated block, whoever allocated it. Raises BadPageError."},
	{"get_page", pool_get_page, METH_O, "get_page(page)\n\nTake another reference."},
	{"put_page", pool_put_page, METH_O,
	 "put_page(page)\n\nDrop a reference; the last one frees the block."},
	{"page_count", pool_page_count, METH_O,
	 "page_count(page) -> int\n\nThe number of references; 0 if the page is not allocated."},
	{"split_page", pool_split_page, METH_VARARGS,
	 "split_page(page, order=0) -> list of Page\n\n"
	 "Split a block that is not compound into blocks of order. The first is page itself."},
	{"drain_local_pages", held_pool_drain_local_pages, METH_NOARGS,
	 "Free this process's order-0 lists."},
	{"capture_stack", held_pool_capture_stack, METH_VARARGS,
	 "The handle of the caller's stack."},
	{"enable_page_owner", held_pool_enable_page_owner, METH_VARARGS,
	 "Switch tracking on; returns the number of early pages per zone."},
	{"recover_clients", held_pool_recover, METH_NOARGS,
	 "Free what dead clients held; returns the number of clients."},
	{"report_free_pages", held_pool_report_free_pages, METH_NOARGS,
	 "Return free memory to the system; returns the number of pages."},
	{"_zone_info", held_pool_zone_info, METH_NOARGS, "A tuple for each zone."},
	{"_client_info", held_pool_client_info, METH_NOARGS, "A tuple for each client."},
	{"_page_info", held_pool_page_info, METH_O, "A tuple: everything known about a page."},
	{"_stats", held_pool_stats, METH_NOARGS,
	 "A tuple: the counters since the pool was created."},
	{"depot_stack", held_pool_depot_stack, METH_O,
	 "depot_stack(handle) -> list of frames, innermost first."},
	{"check", held_pool_check_all, METH_NOARGS,
	 "Check every invariant; returns the list of problems."},
	{"freeze", held_pool_freeze_method, METH_NOARGS,
	 "Stop the clients between two operations, until thaw()."},
	{"thaw", pool_thaw_method, METH_NOARGS,
	 "Let the clients continue. Only the thread that stopped them may call this."},
	{"stack_counts", held_pool_stack_counts, METH_NOARGS,
	 "(handle, nr_base_pages) of each stack that has allocated, in the order of their first\n"
	 "allocations."},
	{"table", pool_table, METH_NOARGS, "The table of the pool's records, for a Renderer."},
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
