// SPDX-License-Identifier: MIT
/*
 * py_args.c - converting the arguments of methods.
 */
#include "python/py.h"

/* Converter for "O&": an unsigned 64-bit int. */
int as_u64(PyObject *arg, void *value)
{
	unsigned long long number;

	if (!PyLong_Check(arg)) {
		PyErr_Format(PyExc_TypeError, "expected an int, not %.100s", Py_TYPE(arg)->tp_name);
		return 0;
	}
	number = PyLong_AsUnsignedLongLong(arg);
	if (PyErr_Occurred()) {
		PyErr_Clear();
		PyErr_Format(PyExc_ValueError, "%R: must be 0 to 2**64 - 1", arg);
		return 0;
	}
	*(u64 *)value = number;
	return 1;
}

/* Convert an int in 0..max. */
int as_u32_max(PyObject *arg, const char *name, u32 max, u32 *value)
{
	unsigned long number;

	if (unlikely(!PyLong_Check(arg))) {
		PyErr_Format(PyExc_TypeError, "%s must be an int, not %.100s", name,
			     Py_TYPE(arg)->tp_name);
		return -1;
	}
	number = PyLong_AsUnsignedLong(arg);
	if (unlikely(number > max)) {
		PyErr_Clear(); /* negative, or too large for a long */
		PyErr_Format(PyExc_ValueError,
			     max > 0xffff ? "%s %R: must be 0..0x%x" : "%s %R: must be 0..%u", name,
			     arg, max);
		return -1;
	}
	*value = (u32)number;
	return 0;
}

int as_u32(PyObject *arg, const char *name, u32 *value)
{
	return as_u32_max(arg, name, 0xffffffffu, value);
}

int as_pid(PyObject *arg, s32 *value)
{
	long number = PyLong_AsLong(arg);

	if (!PyErr_Occurred() && number != (s32)number)
		PyErr_SetString(PyExc_OverflowError, "a pid must fit into 32 bits");
	*value = (s32)number;
	return PyErr_Occurred() ? -1 : 0;
}

/* Parse up to two arguments, by position or by these names; missing ones stay NULL. */
int parse_two(const char *function, const char *const names[2], PyObject *const *args,
	      Py_ssize_t nargs, PyObject *kwnames, PyObject *values[2])
{
	if (unlikely(nargs > 2)) {
		PyErr_Format(PyExc_TypeError, "%s() takes at most 2 arguments", function);
		return -1;
	}
	for (Py_ssize_t i = 0; i < nargs; i++)
		values[i] = args[i];
	if (likely(!kwnames))
		return 0;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
		PyObject *key = PyTuple_GET_ITEM(kwnames, i);
		int which = PyUnicode_CompareWithASCIIString(key, names[0]) == 0   ? 0
			    : PyUnicode_CompareWithASCIIString(key, names[1]) == 0 ? 1
										   : -1;

		if (which < 0 || values[which]) {
			PyErr_Format(PyExc_TypeError, "%s(): unexpected or repeated argument '%U'",
				     function, key);
			return -1;
		}
		values[which] = args[nargs + i];
	}
	return 0;
}
