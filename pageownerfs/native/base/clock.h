/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_CLOCK_H
#define PAGEOWNERFS_CLOCK_H

#include <time.h>

#include "base/types.h"

/* The current CLOCK_MONOTONIC time, as the kernel's ktime_get_ns() returns it. */
static inline u64 ktime_get_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000ULL + (u64)ts.tv_nsec;
}

#endif
