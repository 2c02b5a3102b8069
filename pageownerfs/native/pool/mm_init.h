/* SPDX-License-Identifier: MIT */
/* A new pool's struct pages, zones, watermarks and first free lists. Mirrors mm/mm_init.c. */
#ifndef PAGEOWNERFS_MM_INIT_H
#define PAGEOWNERFS_MM_INIT_H

#include "pool/layout.h"

/* Everything that is neither metadata nor a hole becomes free. */
int free_area_init(struct pool *pool, const struct pool_config *config);

#endif
