// SPDX-License-Identifier: MIT
/*
 * py_pool_table.c - PoolTable: the records of a pool.
 */
#include "python/py.h"

typedef struct {
	TableObject base;
	struct pool_table table;
	PoolObject *pool; /* the table points into its mapping, so it is a user of the pool */
} PoolTableObject;

PyObject *pool_table(PyObject *op, PyObject *Py_UNUSED(unused))
{
	PoolObject *pool = (PoolObject *)op;
	PoolTableObject *self;

	if (pool_usable(pool))
		return NULL;
	self = (PoolTableObject *)PoolTable_Type.tp_alloc(&PoolTable_Type, 0);
	if (!self)
		return NULL;
	pool->users++;
	self->pool = (PoolObject *)Py_NewRef(op);
	pool_table_init(&self->table, &pool->pool);
	self->base.table = &self->table.table;
	return (PyObject *)self;
}

static void pool_table_dealloc(PyObject *op)
{
	PoolTableObject *self = (PoolTableObject *)op;

	pool_drop_user(self->pool);
	Py_DECREF(self->pool);
	Py_TYPE(op)->tp_free(op);
}

PyTypeObject PoolTable_Type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pageownerfs._native.PoolTable",
	.tp_basicsize = sizeof(PoolTableObject),
	.tp_base = &Table_Type,
	.tp_dealloc = pool_table_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.tp_doc = "The records of a pool's pages.",
};
