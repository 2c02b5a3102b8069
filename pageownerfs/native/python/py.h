/* SPDX-License-Identifier: MIT */
/*
 * The Python types of the core, shared by the py_*.c files. All code runs with the GIL held unless
 * noted.
 */
#ifndef PAGEOWNERFS_PY_H
#define PAGEOWNERFS_PY_H

#include "pool/layout.h"
#include "python/pystack.h"
#include "tables/pool_table.h"
#include "tables/record_table.h"
#include "text/record_load.h"

typedef struct {
	PyObject_HEAD struct pool pool;
	struct pystack_cache *stacks;
	PyObject *path;
	bool closed;
	/*
	 * How many users need the mapping: buffers, tables, calls that release the GIL, a thread
	 * that has frozen the pool. After close() the last one unmaps it.
	 */
	Py_ssize_t users;
} PoolObject;

typedef struct {
	PyObject_HEAD PoolObject *pool;
	PyObject *view; /* weak reference to the memoryview from buffer, or NULL */
	Py_ssize_t exports;
	u32 pfn;
	u32 references; /* how many this object may drop; 0 = freed */
	u8 order;
} PageObject;

/* Table: the base type of PoolTable, KernelTable and RecordTable. */
typedef struct {
	PyObject_HEAD struct table *table;
	_Atomic u32 nr_looking; /* threads between the following two macros */
} TableObject;

/* Enclose code that reads a table without the GIL. No records are added to the table meanwhile. */
#define BEGIN_LOOKING(self)                                                                        \
	(self)->nr_looking++;                                                                      \
	Py_BEGIN_ALLOW_THREADS
#define END_LOOKING(self)                                                                          \
	Py_END_ALLOW_THREADS;                                                                      \
	(self)->nr_looking--

extern PyTypeObject Pool_Type, Page_Type, Table_Type, PoolTable_Type, KernelTable_Type,
	RecordTable_Type, Renderer_Type, Reader_Type;
extern PyTypeObject Groups_Type, Group_Type;

/* py_page.c */
PageObject *page_new(PoolObject *pool, u32 pfn, unsigned int order);
int page_release_buffer(PageObject *page); /* BufferError if views of it are still in use */
void page_clear_freelist(void);

/* py_pool.c */
int pool_usable(PoolObject *self); /* -1 with ValueError if closed */
/* Raise the exception for a negative result of the core; returns NULL. */
PyObject *pool_error(PoolObject *self, int error, u32 pfn, int order);
/* Raise an OSError with the pool's file name; returns NULL. */
PyObject *pool_os_error(PoolObject *self, int number, const char *text);
void pool_drop_user(PoolObject *self);
/*
 * An operation has failed with *error: reclaim or wait, without the GIL. drain: also handle out of
 * memory. Returns 0: try the operation again; 1: *error is final; -1: an exception was raised, by a
 * signal or because the pool has been closed meanwhile.
 */
int pool_try_again(PoolObject *self, int *error, bool drain);

/* py_pool_open.c */
PyObject *pool_create_method(PyObject *type, PyObject *args, PyObject *kwargs);
PyObject *pool_open_method(PyObject *type, PyObject *path);
PyObject *pool_close(PyObject *op, PyObject *unused);
void pool_dealloc(PyObject *op);

/* py_alloc.c */
PyObject *pool_alloc_pages(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
			   PyObject *kwnames);
PyObject *pool_free_pages(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *pool_page(PyObject *op, PyObject *arg);
PyObject *pool_get_page(PyObject *op, PyObject *arg);
PyObject *pool_put_page(PyObject *op, PyObject *arg);
PyObject *pool_page_count(PyObject *op, PyObject *arg);
PyObject *pool_split_page(PyObject *op, PyObject *args);
PyObject *pool_drain_local_pages(PyObject *op, PyObject *unused);

/* py_args.c: 0, or -1 with ValueError, TypeError or OverflowError */
int as_u32(PyObject *arg, const char *name, u32 *value);
int as_u32_max(PyObject *arg, const char *name, u32 max, u32 *value);
int as_pid(PyObject *arg, s32 *value);
int as_u64(PyObject *arg, void *value); /* for "O&": 1, or 0 with the error */
int parse_two(const char *function, const char *const names[2], PyObject *const *args,
	      Py_ssize_t nargs, PyObject *kwnames, PyObject *values[2]);

/* py_daemon.c */
PyObject *pool_capture_stack(PyObject *op, PyObject *args);
PyObject *pool_enable_page_owner(PyObject *op, PyObject *args);
PyObject *pool_freeze_method(PyObject *op, PyObject *unused);
PyObject *pool_thaw_method(PyObject *op, PyObject *unused);
PyObject *pool_recover(PyObject *op, PyObject *unused);
PyObject *pool_report_free_pages(PyObject *op, PyObject *unused);

/* py_info.c: the state of a pool */
PyObject *pool_zone_info(PyObject *self, PyObject *unused);
PyObject *pool_client_info(PyObject *self, PyObject *unused);
PyObject *pool_page_info(PyObject *self, PyObject *arg);
PyObject *pool_stats(PyObject *self, PyObject *unused);
PyObject *pool_depot_stack(PyObject *self, PyObject *arg);
PyObject *pool_stack_counts(PyObject *self, PyObject *unused);
PyObject *pool_check_all(PyObject *self, PyObject *unused);
PyObject *layout(void);

/* py_pool_table.c */
PyObject *pool_table(PyObject *self, PyObject *unused);

/* py_records.c */
PyObject *table_snapshot(PyObject *self, PyObject *arg);
/* The text that a dump has for a value; false: none, or the table is not of a dump. */
bool table_text(const TableObject *table, enum text_kind kind, u64 value, struct string *text);

/* py_parse.c */
PyObject *parse_page_owner(PyObject *module, PyObject *args);
PyObject *damage_list(const struct text_walk *walk);

#endif
