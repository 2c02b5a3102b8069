/* SPDX-License-Identifier: MIT */
/* Arrays that grow: items, the number of them, and the room there is. All begin as zeroes. */
#ifndef PAGEOWNERFS_VECTOR_H
#define PAGEOWNERFS_VECTOR_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"

#define VECTOR_FIRST_ROOM 64

/* Room for item nr; false: no memory, and all is as it was. */
#define vector_reserve(items, nr, room)                                                            \
	((nr) < *(room) || vector_grow(&(items), (room), sizeof(*(items))))

/* items: address of the pointer to them, whatever they are. */
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
