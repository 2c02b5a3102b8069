// SPDX-License-Identifier: MIT
/*
 * py_page.c - Page: a block of pages that its holder may use and free.
 */
#include "pool/page_ref.h"
#include "python/py.h"

#define FREELIST_MAX 64

static PageObject *freelist[FREELIST_MAX];
static int nr_freelist;

PageObject *page_new(PoolObject *pool, u32 pfn, unsigned int order)
{
	PageObject *page;

	if (likely(nr_freelist)) {
		page = freelist[--nr_freelist];
		PyObject_Init((PyObject *)page, &Page_Type);
	} else {
		page = PyObject_New(PageObject, &Page_Type);
		if (!page)
			return NULL;
	}
	Py_INCREF(pool);
	page->pool = pool;
	page->view = NULL;
	page->exports = 0;
	page->pfn = pfn;
	page->references = 1;
	page->order = (u8)order;
	return page;
}

static void page_dealloc(PyObject *op)
{
	PageObject *page = (PageObject *)op;

	Py_CLEAR(page->view);
	Py_CLEAR(page->pool);
	if (nr_freelist < FREELIST_MAX)
		freelist[nr_freelist++] = page;
	else
		PyObject_Free(page);
}

void page_clear_freelist(void)
{
	while (nr_freelist)
		PyObject_Free(freelist[--nr_freelist]);
}

/*
 * The memoryview that buffer returned, if it is still alive: a new reference, or NULL without an
 * error.
 */
static PyObject *live_view(PageObject *page)
{
	PyObject *view = NULL;

	if (!page->view)
		return NULL;
#if PY_VERSION_HEX >= 0x030d0000
	if (PyWeakref_GetRef(page->view, &view) > 0)
		return view;
#else
	view = PyWeakref_GetObject(page->view);
	if (view && view != Py_None)
		return Py_NewRef(view);
#endif
	PyErr_Clear();
	Py_CLEAR(page->view);
	return NULL;
}

/*
 * Make every later use of the page's buffer raise. -1 with BufferError: other views of it, such as
 * slices or arrays, still exist.
 */
int page_release_buffer(PageObject *page)
{
	PyObject *view, *result;

	if (likely(page->exports == 0))
		return 0;
	view = live_view(page);
	if (view) {
		result = PyObject_CallMethod(view, "release", NULL);
		Py_DECREF(view);
		if (!result)
			return -1;
		Py_DECREF(result);
		Py_CLEAR(page->view);
	}
	if (page->exports) {
		PyErr_Format(
			PyExc_BufferError,
			"PFN 0x%x: %zd views of its buffer are still in use; release them first",
			page->pfn, page->exports);
		return -1;
	}
	return 0;
}

static int page_getbuffer(PyObject *op, Py_buffer *view, int flags)
{
	PageObject *page = (PageObject *)op;
	int order;

	view->obj = NULL;
	if (pool_usable(page->pool))
		return -1;
	if (page->references == 0) {
		PyErr_Format(PyExc_ValueError, "PFN 0x%x: the page has been freed", page->pfn);
		return -1;
	}
	order = allocated_order(&page->pool->pool, page->pfn);
	if (order != page->order) { /* another process freed it */
		pool_error(page->pool, order < 0 ? order : -BAD_ORDER, page->pfn, page->order);
		return -1;
	}
	if (PyBuffer_FillInfo(view, op, page_address(&page->pool->pool, page->pfn),
			      (Py_ssize_t)(PAGE_SIZE << page->order), 0, flags))
		return -1;
	page->exports++;
	page->pool->users++;
	return 0;
}

static void page_releasebuffer(PyObject *op, Py_buffer *Py_UNUSED(view))
{
	PageObject *page = (PageObject *)op;

	page->exports--;
	pool_drop_user(page->pool);
}

static PyObject *page_buffer(PyObject *op, void *Py_UNUSED(closure))
{
	PageObject *page = (PageObject *)op;
	PyObject *view = live_view(page);

	if (view)
		return view;
	view = PyMemoryView_FromObject(op);
	if (!view)
		return NULL;
	page->view = PyWeakref_NewRef(view, NULL);
	if (!page->view)
		Py_CLEAR(view);
	return view;
}

static PyObject *page_pfn(PyObject *op, void *Py_UNUSED(closure))
{
	return PyLong_FromUnsignedLong(((PageObject *)op)->pfn);
}

static PyObject *page_order(PyObject *op, void *Py_UNUSED(closure))
{
	return PyLong_FromLong(((PageObject *)op)->order);
}

static PyObject *page_repr(PyObject *op)
{
	PageObject *page = (PageObject *)op;
	char text[64];

	snprintf(text, sizeof(text), "<Page pfn=0x%x order=%u%s>", page->pfn, page->order,
		 page->references ? "" : " freed");
	return PyUnicode_FromString(text);
}

static PyGetSetDef page_getset[] = {
	{"pfn", page_pfn, NULL, "Page frame number of the first page.", NULL},
	{"order", page_order, NULL, "The block is 2^order pages.", NULL},
	{"buffer", page_buffer, NULL,
	 "The block's memory, PAGE_SIZE << order bytes: a writable memoryview, shared with all\n"
	 "processes that hold the page. It is released when the page is freed.",
	 NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyBufferProcs page_as_buffer = {.bf_getbuffer = page_getbuffer,
				       .bf_releasebuffer = page_releasebuffer};

PyTypeObject Page_Type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pageownerfs._native.Page",
	.tp_basicsize = sizeof(PageObject),
	.tp_dealloc = page_dealloc,
	.tp_repr = page_repr,
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.tp_doc = "A block of 2^order pages, from Pool.alloc_pages() or Pool.page().\n\n"
		  "Dropping the object does not free the pages: as in the kernel, that is a leak.",
	.tp_getset = page_getset,
	.tp_as_buffer = &page_as_buffer,
};
