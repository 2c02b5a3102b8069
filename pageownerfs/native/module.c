// SPDX-License-Identifier: MIT
/*
 * module.c - pageownerfs._native
 */
#include "py.h"
#include "render.h"

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

static struct PyModuleDef module_def = {
	PyModuleDef_HEAD_INIT,
	.m_name = "pageownerfs._native",
	.m_doc = "The C core: allocator, owners, stacks, rendering.",
	.m_size = -1,
	.m_free = module_free,
};

PyMODINIT_FUNC PyInit__native(void)
{
	PyTypeObject *const types[] = {&Pool_Type, &Page_Type, &Table_Type, &Renderer_Type, &Reader_Type};
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
