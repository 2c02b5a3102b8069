// SPDX-License-Identifier: MIT
/*
 * py_alloc.c - Pool: allocating, freeing and splitting pages.
 *
 * Operations run with the GIL held, because the threads of a process share one client of the pool.
 * An operation that can't proceed ends, and pool_try_again() waits without the GIL. Whatever was
 * known about the pool and a page before must then be checked again.
 */
#include "base/gfp.h"
#include "pool/page_alloc.h"
#include "pool/page_ref.h"
#include "pool/pcp.h"
#include "python/py.h"

static PyObject *alloc_error(PoolObject *self, int error, unsigned int order, u32 gfp_mask)
{
	PyObject *exception;

	if (error == -EINVAL) {
		if (gfp_mask & __GFP_NOFAIL)
			return PyErr_Format(PyExc_ValueError,
					    "gfp_mask 0x%x: __GFP_NOFAIL is refused, because "
					    "allocations from a pool can fail",
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

/* Naming a frame may run Python code, which may close the pool. */
static int save_tracked_stack(PoolObject *self, u32 *handle)
{
	self->users++;
	*handle = pystack_save(self->stacks, &self->pool, self->pool.stack_depth);
	pool_drop_user(self);
	return pool_usable(self);
}

/* The caller's stack, if tracking is on. -1 with ValueError: the pool is closed. */
static inline int save_stack(PoolObject *self, u32 *handle)
{
	*handle = 0;
	if (unlikely(pool_usable(self)))
		return -1;
	if (likely(!(atomic_load_explicit(&self->pool.header->gate, memory_order_relaxed) &
		     GATE_PAGE_OWNER)))
		return 0;
	return save_tracked_stack(self, handle);
}

/* 0, a negative error, or 1 with an exception set. */
static int alloc_or_wait(PoolObject *self, u32 order, u32 gfp_mask, u32 *pfn, u32 *handle)
{
	bool drained = false;

	for (;;) {
		int error, again;
		bool full;

		if (unlikely(save_stack(self, handle)))
			return 1;
		error = alloc_pages(&self->pool, order, gfp_mask, *handle, drained, pfn);
		if (likely(!error))
			return 0;
		full = error == -ENOMEM || error == -ENOSPC;
		again = pool_try_again(self, &error, gfp_mask & __GFP_DIRECT_RECLAIM && !drained);
		if (again)
			return again < 0 ? 1 : error;
		drained |= full;
	}
}

PyObject *pool_alloc_pages(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	static const char *const names[2] = {"order", "gfp_mask"};
	PoolObject *self = (PoolObject *)op;
	PyObject *values[2] = {NULL, NULL};
	u32 order = 0, gfp_mask = GFP_KERNEL, pfn, handle;
	PageObject *page;
	int error;

	if (unlikely(parse_two("alloc_pages", names, args, nargs, kwnames, values)) ||
	    (values[0] && as_u32_max(values[0], "order", MAX_PAGE_ORDER, &order)) ||
	    (values[1] && as_u32(values[1], "gfp_mask", &gfp_mask)))
		return NULL;
	error = alloc_or_wait(self, order, gfp_mask, &pfn, &handle);
	if (unlikely(error))
		return error > 0 ? NULL : alloc_error(self, error, order, gfp_mask);
	page = page_new(self, pfn, order);
	if (unlikely(!page))
		free_pages(&self->pool, pfn, -1, handle);
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
			PyErr_Format(PyExc_ValueError, "PFN 0x%x: the page belongs to another pool",
				     *pfn);
			return -1;
		}
		return 0;
	}
	*page = NULL;
	if (!PyLong_Check(arg)) {
		PyErr_Format(PyExc_TypeError, "expected a Page or a PFN, not %.100s",
			     Py_TYPE(arg)->tp_name);
		return -1;
	}
	return as_u32(arg, "PFN", pfn);
}

/*
 * May the page be freed? -1 with an exception: it was freed already, or parts of its buffer are in
 * use.
 */
static int check_page(PoolObject *self, PageObject *page)
{
	if (unlikely(page->references == 0)) {
		pool_error(self, -BAD_FREE, page->pfn, page->order);
		return -1;
	}
	return page->references == 1 ? page_release_buffer(page) : 0;
}

/* order: what the caller believes the order is; -1: what the Page says. */
static PyObject *drop_reference(PoolObject *self, PyObject *arg, int order)
{
	PageObject *page;
	int error, again, expected;
	u32 pfn, handle;

	if (unlikely(page_argument(self, arg, &page, &pfn)))
		return NULL;
	do {
		if (unlikely(save_stack(self, &handle)) || (page && check_page(self, page)))
			return NULL;
		expected = page && order < 0 ? page->order : order;
		error = free_pages(&self->pool, pfn, expected, handle);
		if (likely(!error)) {
			if (page)
				page->references--;
			Py_RETURN_NONE;
		}
		again = pool_try_again(self, &error, false);
	} while (again == 0);
	return again < 0 ? NULL : pool_error(self, error, pfn, expected);
}

PyObject *pool_free_pages(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	static const char *const names[2] = {"page", "order"};
	PoolObject *self = (PoolObject *)op;
	PyObject *values[2] = {NULL, NULL};
	u32 order = 0;

	if (unlikely(parse_two("free_pages", names, args, nargs, kwnames, values)))
		return NULL;
	if (unlikely(!values[0]))
		return PyErr_Format(PyExc_TypeError, "free_pages() requires a page");
	if (values[1] && values[1] != Py_None) {
		if (as_u32_max(values[1], "order", MAX_PAGE_ORDER, &order))
			return NULL;
		return drop_reference(self, values[0], (int)order);
	}
	return drop_reference(self, values[0], -1);
}

PyObject *pool_put_page(PyObject *op, PyObject *arg)
{
	return drop_reference((PoolObject *)op, arg, -1);
}

PyObject *pool_get_page(PyObject *op, PyObject *arg)
{
	PoolObject *self = (PoolObject *)op;
	PageObject *page;
	int error;
	u32 pfn;

	if (page_argument(self, arg, &page, &pfn) || pool_usable(self))
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

PyObject *pool_page_count(PyObject *op, PyObject *arg)
{
	PoolObject *self = (PoolObject *)op;
	PageObject *page;
	u32 pfn;

	if (page_argument(self, arg, &page, &pfn) || pool_usable(self))
		return NULL;
	if (allocated_order(&self->pool, pfn) < 0)
		return PyLong_FromLong(0);
	return PyLong_FromUnsignedLong(word_count(page_word(&self->pool, pfn)));
}

PyObject *pool_page(PyObject *op, PyObject *arg)
{
	PoolObject *self = (PoolObject *)op;
	int order;
	u32 pfn;

	if (as_u32(arg, "PFN", &pfn) || pool_usable(self))
		return NULL;
	order = allocated_order(&self->pool, pfn);
	if (order < 0)
		return pool_error(self, order, pfn, 0);
	return (PyObject *)page_new(self, pfn, (unsigned int)order);
}

/* Create the objects for all parts of a page first: nothing may fail after the split. */
static PyObject *new_parts(PoolObject *self, PageObject *page, unsigned int order)
{
	Py_ssize_t nr = (Py_ssize_t)1 << (page->order - order);
	PyObject *pages = PyList_New(nr);

	if (!pages)
		return NULL;
	PyList_SET_ITEM(pages, 0, Py_NewRef((PyObject *)page));
	for (Py_ssize_t i = 1; i < nr; i++) {
		PageObject *part = page_new(self, page->pfn + (u32)(i << order), order);

		if (!part) {
			Py_DECREF(pages);
			return NULL;
		}
		PyList_SET_ITEM(pages, i, (PyObject *)part);
	}
	return pages;
}

/* The list of parts, or NULL: *error is that of split_page(), or 0 with an exception set. */
static PyObject *split_pages(PoolObject *self, PageObject *page, unsigned int order, int *error)
{
	PyObject *pages;

	*error = 0;
	if (pool_usable(self))
		return NULL;
	if (page->references == 0)
		return pool_error(self, -BAD_FREE, page->pfn, page->order);
	if (order > page->order)
		return PyErr_Format(PyExc_ValueError,
				    "order %u: PFN 0x%x has order %u and can only be split into "
				    "smaller blocks",
				    order, page->pfn, page->order);
	if (page_release_buffer(page))
		return NULL;
	pages = new_parts(self, page, order);
	if (!pages)
		return NULL;
	*error = split_page(&self->pool, page->pfn, order);
	if (*error)
		Py_CLEAR(pages);
	else
		page->order = (u8)order;
	return pages;
}

PyObject *pool_split_page(PyObject *op, PyObject *args)
{
	PoolObject *self = (PoolObject *)op;
	PyObject *arg = NULL, *pages;
	PageObject *page;
	u32 order = 0;
	int error, again;

	if (!PyArg_ParseTuple(args, "O!|O:split_page", &Page_Type, &page, &arg) ||
	    (arg && as_u32_max(arg, "order", MAX_PAGE_ORDER, &order)))
		return NULL;
	do {
		pages = split_pages(self, page, order, &error);
		if (!error)
			return pages;
		again = pool_try_again(self, &error, false);
	} while (again == 0);
	return again < 0 ? NULL : pool_error(self, error, page->pfn, page->order);
}

PyObject *pool_drain_local_pages(PyObject *op, PyObject *Py_UNUSED(unused))
{
	PoolObject *self = (PoolObject *)op;
	int error, again;

	do {
		error = drain_local_pages(&self->pool);
		if (!error)
			Py_RETURN_NONE;
		again = pool_try_again(self, &error, false);
	} while (again == 0);
	return again < 0 ? NULL : pool_error(self, error, 0, 0);
}
