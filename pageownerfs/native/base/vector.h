/* SPDX-License-Identifier: MIT */
/*
 * Growable arrays: a pointer to the items, their number, and the allocated room. All three start as
 * zero.
 */
#ifndef PAGEOWNERFS_VECTOR_H
#define PAGEOWNERFS_VECTOR_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"

#define VECTOR_FIRST_ROOM 64

/* Make room for item nr. False if out of memory; the array is then unchanged. */
#define vector_reserve(items, nr, room)                                                            \
	((nr) < *(room) || vector_grow(&(items), (room), sizeof(*(items))))

/* items is the address of the pointer to the items, of whatever type. */
static inline bool vector_grow(void *items, u32 *room, size_t item_size)
{
	u32 more_room = *room ? 2 * *room : VECTOR_FIRST_ROOM;
	void *more;

	memcpy(&more, items, sizeof(more));
	more = more_room > *room ? realloc(more, more_room * item_size) : NULL;
	if (!more)
		return false;
	memcpy(items, &more, sizeof(more));
	*room = more_room;
	return true;
}

#endif
