/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_STACKTRACE_H
#define PAGEOWNERFS_STACKTRACE_H

#include "base/types.h"

/* Identifies a frame. 16 bytes without padding, because keys are compared and hashed as memory. */
struct frame_key {
	u64 code;  /* PyCodeObject *, borrowed from the frame */
	u64 lasti; /* byte offset of the instruction in the code */
};

unsigned int stack_trace_save(struct frame_key *store, unsigned int size);

#endif
