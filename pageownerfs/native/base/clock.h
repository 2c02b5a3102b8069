/* SPDX-License-Identifier: MIT */
#ifndef PAGEOWNERFS_CLOCK_H
#define PAGEOWNERFS_CLOCK_H

#include <time.h>

#include "base/types.h"

/* Nanoseconds of CLOCK_MONOTONIC, as ktime_get_ns() of the kernel. */
static inline u64 ktime_get_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000ULL + (u64)ts.tv_nsec;
}

#endif
