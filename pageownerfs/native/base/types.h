/* SPDX-License-Identifier: MIT */
/* Integer types and compiler hints, as in include/linux/{types,compiler}.h. */
#ifndef PAGEOWNERFS_TYPES_H
#define PAGEOWNERFS_TYPES_H

#ifdef __bpf__
#include <linux/types.h>
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s32 s32;
typedef __s64 s64;
#else
#include <stdint.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int32_t s32;

/* Python reads records as raw bytes, and one type holds both addresses and file offsets. */
_Static_assert(sizeof(void *) == 8 && sizeof(long) == 8, "pageownerfs needs a 64-bit machine");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "pageownerfs needs a little-endian machine");
#endif

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#ifndef likely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif
#ifndef barrier
#define barrier() __asm__ __volatile__("" ::: "memory")
#endif

#endif
