// SPDX-License-Identifier: MIT
/*
 * module.c - pageownerfs._native
 */
#include "pool/page_ref.h"
#include "python/py.h"
#include "sort/page_owner_sort.h"

#include <sys/vfs.h>

static int add_constants(PyObject *module)
{
	static const struct {
		const char *name;
		long value;
	} constants[] = {
		{"ABI_VERSION", POOL_ABI_VERSION},
		{"PAGE_SIZE", PAGE_SIZE},
		{"MAX_PAGE_ORDER", MAX_PAGE_ORDER},
		{"PAGEBLOCK_ORDER", PAGEBLOCK_ORDER},
		{"NR_CLIENTS", NR_CLIENTS},
		{"BAD_PFN", BAD_PFN},
		{"BAD_FREE", BAD_FREE},
		{"BAD_TAIL", BAD_TAIL},
		{"BAD_ORDER", BAD_ORDER},
		{"BAD_COMPOUND", BAD_COMPOUND},
		{"BAD_COUNT", BAD_COUNT},
		{"TEXT_GFP", TEXT_GFP},
		{"TEXT_FLAGS", TEXT_FLAGS},
		{"TEXT_STACK", TEXT_STACK},
		{"TEXT_MIGRATE_REASON", TEXT_MIGRATE_REASON},
		{"TEXT_MIGRATETYPE", TEXT_MIGRATETYPE},
		{"TEXT_MEMCG", TEXT_MEMCG},
		{"HAS_PID", TEXT_HAS_PID},
		{"HAS_TGID", TEXT_HAS_TGID},
		{"HAS_TS", TEXT_HAS_TS},
		{"HAS_FREE_TS", TEXT_HAS_FREE_TS},
		{"HAS_PFN", TEXT_HAS_PFN},
		{"PFN_HEX", TEXT_PFN_HEX},
		{"ALLOCATOR_CMA", ALLOCATOR_CMA},
		{"ALLOCATOR_SLAB", ALLOCATOR_SLAB},
		{"ALLOCATOR_VMALLOC", ALLOCATOR_VMALLOC},
		{"ALLOCATOR_OTHERS", ALLOCATOR_OTHERS},
		{"FIELD_TXT", FIELD_TXT},
		{"FIELD_STACKTRACE", FIELD_STACKTRACE},
		{"FIELD_PID", FIELD_PID},
		{"FIELD_TGID", FIELD_TGID},
		{"FIELD_COMM", FIELD_COMM},
		{"FIELD_FREE", FIELD_FREE},
		{"FIELD_ALLOCATOR", FIELD_ALLOCATOR},
		{"FIELD_MODULE", FIELD_MODULE},
		{"FIELD_TS", FIELD_TS},
		{"FIELD_FREE_TS", FIELD_FREE_TS},
		{"FIELD_TIMES", FIELD_TIMES},
		{"FIELD_PAGES", FIELD_PAGES},
	};

	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
		if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value))
			return -1;
	return 0;
}

static int add_layout(PyObject *module)
{
	PyObject *dict = layout();
	int error = dict ? PyModule_AddObjectRef(module, "LAYOUT", dict) : -1;

	Py_XDECREF(dict);
	return error;
}

static void module_free(void *Py_UNUSED(module))
{
	page_clear_freelist();
}

static PyObject *filesystem_type(PyObject *Py_UNUSED(module), PyObject *arg)
{
	int fd = (int)PyLong_AsLong(arg), error;
	struct statfs info;

	if (PyErr_Occurred())
		return NULL;
	Py_BEGIN_ALLOW_THREADS error = fstatfs(fd, &info);
	Py_END_ALLOW_THREADS return error ? PyErr_SetFromErrno(PyExc_OSError)
					  : PyLong_FromUnsignedLong((u32)info.f_type);
}

static PyMethodDef module_methods[] = {
	{"filesystem_type", filesystem_type, METH_O,
	 "filesystem_type(fd) -> f_type of fstatfs(2): the magic number of the file system of an "
	 "open file."},
	{"parse_page_owner", parse_page_owner, METH_VARARGS,
	 "parse_page_owner(text, offset, final, in_damage) -> the record there, or what is wrong; "
	 "see text/record.py"},
	{NULL, NULL, 0, NULL},
};

/*
 * Py_MOD_GIL_USED is the default: when a free-threaded Python imports this module it turns the GIL
 * on, which the objects here rely on.
 */
static struct PyModuleDef module_def = {
	PyModuleDef_HEAD_INIT,
	.m_name = "pageownerfs._native",
	.m_doc = "The C core: allocator, owners, stacks, rendering.",
	.m_size = -1,
	.m_methods = module_methods,
	.m_free = module_free,
};

PyMODINIT_FUNC PyInit__native(void)
{
	PyTypeObject *const types[] = {
		&Pool_Type,	   &Page_Type,	   &Table_Type,	 &PoolTable_Type, &KernelTable_Type,
		&RecordTable_Type, &Renderer_Type, &Reader_Type, &Groups_Type,	  &Group_Type};
	PyObject *module = PyModule_Create(&module_def);

	if (!module)
		return NULL;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (PyModule_AddType(module, types[i])) {
			Py_DECREF(module);
			return NULL;
		}
	if (add_constants(module) || add_layout(module)) {
		Py_DECREF(module);
		return NULL;
	}
	return module;
}
