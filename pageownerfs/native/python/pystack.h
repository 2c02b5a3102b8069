/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_PYSTACK_H
#define PAGEOWNERFS_PYSTACK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "pool/layout.h"

struct pystack_cache;

struct pystack_cache *pystack_new(void);
void pystack_free(struct pystack_cache *cache);
void pystack_forget(struct pystack_cache *cache);
u32 pystack_save(struct pystack_cache *cache, struct pool *pool, unsigned int depth);

#endif
