// SPDX-License-Identifier: MIT
/*
 * py_pool_open.c - Pool: creating, opening and closing a pool.
 */
#include "pool/create.h"
#include "pool/fork.h"
#include "pool/freeze.h"
#include "pool/map.h"
#include "pool/reclaim.h"
#include "python/py.h"

static void close_pool(PoolObject *self)
{
	if (self->closed)
		return;
	self->closed = true; /* no operation can begin from here on */
	if (pool_thaw(&self->pool))
		self->users++;
	/* otherwise this thread had frozen the pool, and keeps using the use taken then */
	Py_BEGIN_ALLOW_THREADS;
	pool_unregister(&self->pool);
	Py_END_ALLOW_THREADS;
	pool_unlink(&self->pool);
	pool_drop_user(self);
}

PyObject *pool_close(PyObject *op, PyObject *Py_UNUSED(unused))
{
	close_pool((PoolObject *)op);
	Py_RETURN_NONE;
}

void pool_dealloc(PyObject *op)
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

PyObject *pool_create_method(PyObject *type, PyObject *args, PyObject *kwargs)
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
	 * A file name may have any bytes. This encodes names that are not valid text, and raises
	 * for NUL.
	 */
	if (!PyUnicode_FSConverter(path, &name))
		return NULL;
	self = pool_alloc_object((PyTypeObject *)type, path);
	if (self) {
		const char *file = PyBytes_AS_STRING(name);

		Py_BEGIN_ALLOW_THREADS;
		error = pool_create(&self->pool, file, &config);
		Py_END_ALLOW_THREADS;
		self = (PoolObject *)pool_opened(self, error);
	}
	Py_DECREF(name);
	return (PyObject *)self;
}

PyObject *pool_open_method(PyObject *type, PyObject *path)
{
	PyObject *name, *result = NULL;
	PoolObject *self;

	if (!PyUnicode_Check(path))
		return PyErr_Format(PyExc_TypeError, "path must be a str, not %.100s",
				    Py_TYPE(path)->tp_name);
	if (!PyUnicode_FSConverter(path, &name))
		return NULL;
	self = pool_alloc_object((PyTypeObject *)type, path);
	if (self)
		result = pool_opened(self, pool_open(&self->pool, PyBytes_AS_STRING(name)));
	Py_DECREF(name);
	return result;
}
