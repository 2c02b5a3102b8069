// SPDX-License-Identifier: MIT
/*
 * stacktrace.c - the Python frames that the calling thread is in, like kernel/stacktrace.c.
 *
 * Walking frames without creating frame objects needs the interpreter's own headers. They are
 * confined to this file because their names clash with the pool's. If the layout of frames is not
 * one of those tested, or with -DPAGEOWNERFS_PUBLIC_FRAMES, the public API does the same job more
 * slowly.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/stacktrace.h"

#if PY_VERSION_HEX >= 0x030b0000 && PY_VERSION_HEX < 0x030f0000 && !defined(Py_GIL_DISABLED) &&    \
	!defined(PAGEOWNERFS_PUBLIC_FRAMES)
#define INTERPRETER_FRAMES 1
#define Py_BUILD_CORE 1
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#if PY_VERSION_HEX >= 0x030e0000
#include "internal/pycore_interpframe.h"
#else
#include "internal/pycore_frame.h"
#endif
#pragma GCC diagnostic pop
#endif

#ifdef INTERPRETER_FRAMES
#if PY_VERSION_HEX >= 0x030d0000
#define current_frame(tstate) ((tstate)->current_frame)
#define frame_code(frame) _PyFrame_GetCode(frame)
#else
#define current_frame(tstate) ((tstate)->cframe->current_frame)
#define frame_code(frame) ((frame)->f_code)
#endif

/* Store up to size innermost frames of the calling thread; returns how many. GIL held. */
unsigned int stack_trace_save(struct frame_key *store, unsigned int size)
{
	_PyInterpreterFrame *frame = current_frame(PyThreadState_Get());
	unsigned int nr = 0;

	for (; frame && nr < size; frame = frame->previous) {
		/* A frame that has not started, or that represents a call from C. */
		if (_PyFrame_IsIncomplete(frame))
			continue;
		store[nr].code = (uintptr_t)frame_code(frame);
		store[nr].lasti = (u64)(s32)_PyInterpreterFrame_LASTI(frame) * sizeof(_Py_CODEUNIT);
		nr++;
	}
	return nr;
}
#else
unsigned int stack_trace_save(struct frame_key *store, unsigned int size)
{
	PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
	unsigned int nr = 0;

	while (frame && nr < size) {
		PyFrameObject *back = PyFrame_GetBack(frame);
		PyCodeObject *code = PyFrame_GetCode(frame);

		store[nr].code = (uintptr_t)code;
		store[nr].lasti = (u64)PyFrame_GetLasti(frame);
		nr++;
		Py_DECREF(code); /* the frame holds a reference */
		Py_DECREF(frame);
		frame = back;
	}
	Py_XDECREF(frame);
	return nr;
}
#endif
