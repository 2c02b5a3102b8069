// SPDX-License-Identifier: MIT
/*
 * py_daemon.c - what a pool's daemon does: switching tracking on, and looking after clients.
 * Methods of Pool call these functions while they hold a use: see call_held().
 */
#include "pool/freeze.h"
#include "pool/lock.h"
#include "pool/page_reporting.h"
#include "pool/reclaim.h"
#include "pool/stack_depot.h"
#include "pool/tracking.h"
#include "python/py.h"

PyObject *pool_capture_stack(PyObject *op, PyObject *args)
{
	PoolObject *self = (PoolObject *)op;
	unsigned int depth = self->pool.stack_depth;

	if (!PyArg_ParseTuple(args, "|I:capture_stack", &depth))
		return NULL;
	if (depth > MAX_STACK_DEPTH)
		depth = MAX_STACK_DEPTH;
	if (!atomic_load(&self->pool.header->depot_ready))
		return PyLong_FromLong(0);
	return PyLong_FromUnsignedLong(pystack_save(self->stacks, &self->pool, depth));
}

static int register_stack(PyObject *function, u32 *handle)
{
	PyObject *result = PyObject_CallNoArgs(function);
	int error = result ? as_u32(result, "handle", handle) : -1;

	Py_XDECREF(result);
	if (!error && *handle == 0) {
		PyErr_SetString(PyExc_ValueError,
				"the stack depot has no room for the first stacks");
		return -1;
	}
	return error;
}

/* Undo everything, because tracking could not be switched on. */
static void cancel_page_owner(PoolObject *self)
{
	if (atomic_load(&self->pool.header->gate) & GATE_PAGE_OWNER)
		return;
	drop_page_owner_memory(&self->pool);
	pystack_forget(self->stacks);
}

PyObject *pool_enable_page_owner(PyObject *op, PyObject *args)
{
	PoolObject *self = (PoolObject *)op;
	u64 nr_early[MAX_NR_ZONES] = {0};
	PyObject *early, *failure;
	u32 early_handle, failure_handle;
	int error;

	if (!PyArg_ParseTuple(args, "OO:enable_page_owner", &early, &failure))
		return NULL;
	error = init_page_owner_memory(&self->pool);
	if (error)
		return pool_error(self, error, 0, 0);
	if (register_stack(early, &early_handle) || register_stack(failure, &failure_handle)) {
		cancel_page_owner(self);
		return NULL;
	}
	self->pool.header->early_handle = early_handle;
	self->pool.header->failure_handle = failure_handle;
	Py_BEGIN_ALLOW_THREADS;
	error = init_page_owner(&self->pool, nr_early);
	Py_END_ALLOW_THREADS;
	if (error) {
		cancel_page_owner(self);
		return pool_error(self, error, 0, 0);
	}
	return Py_BuildValue("[KKK]", nr_early[0], nr_early[1], nr_early[2]);
}

PyObject *pool_freeze_method(PyObject *op, PyObject *Py_UNUSED(unused))
{
	PoolObject *self = (PoolObject *)op;
	int error;

	Py_BEGIN_ALLOW_THREADS;
	error = pool_freeze(&self->pool, PATIENCE_NSEC);
	Py_END_ALLOW_THREADS;
	if (error)
		return pool_error(self, error, 0, 0);
	self->users++; /* until thaw(): this thread holds a lock inside the mapping */
	Py_RETURN_NONE;
}

/*
 * Works on a closed pool, too: the thread that has frozen it must be able to let the others
 * continue.
 */
PyObject *pool_thaw_method(PyObject *op, PyObject *Py_UNUSED(unused))
{
	PoolObject *self = (PoolObject *)op;

	if (pool_thaw(&self->pool))
		return pool_usable(self)
			       ? NULL
			       : pool_os_error(self, EPERM, "this thread has not frozen the pool");
	pool_drop_user(self);
	Py_RETURN_NONE;
}

PyObject *pool_recover(PyObject *op, PyObject *Py_UNUSED(unused))
{
	PoolObject *self = (PoolObject *)op;
	int nr;

	Py_BEGIN_ALLOW_THREADS;
	nr = pool_recover_clients(&self->pool, PATIENCE_NSEC);
	Py_END_ALLOW_THREADS;
	return nr < 0 ? pool_error(self, nr, 0, 0) : PyLong_FromLong(nr);
}

PyObject *pool_report_free_pages(PyObject *op, PyObject *Py_UNUSED(unused))
{
	PoolObject *self = (PoolObject *)op;
	u64 nr;

	Py_BEGIN_ALLOW_THREADS;
	nr = page_reporting(&self->pool);
	Py_END_ALLOW_THREADS;
	return PyLong_FromUnsignedLongLong(nr);
}
