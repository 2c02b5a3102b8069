/* SPDX-License-Identifier: MIT */
/* Initialize a new pool's struct pages, zones, watermarks and free lists. Mirrors mm/mm_init.c. */
#ifndef PAGEOWNERFS_MM_INIT_H
#define PAGEOWNERFS_MM_INIT_H

#include "pool/layout.h"

/* Every page that is neither metadata nor in a hole becomes free. */
int free_area_init(struct pool *pool, const struct pool_config *config);

#endif
