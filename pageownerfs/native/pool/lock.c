// SPDX-License-Identifier: MIT
/*
 * lock.c - locks in shared memory that outlive their holders.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "pool/lock.h"

#define LOCK_SPINS 200
#define LOCK_SLICE_NSEC 20000000

int pool_mutex_init(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;
	int error;

	error = pthread_mutexattr_init(&attr);
	if (error)
		return error;
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	error = pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return error;
}

/*
 * Does this look like one of our mutexes? If a mutex has been overwritten, libc trusts its fields
 * and aborts.
 */
static bool mutex_ok(const pthread_mutex_t *mutex)
{
#ifdef __GLIBC__
	static _Atomic int kind = -1;
	pthread_mutex_t reference;

	if (unlikely(atomic_load_explicit(&kind, memory_order_relaxed) < 0)) {
		if (pool_mutex_init(&reference))
			return true;
		atomic_store(&kind, reference.__data.__kind);
		pthread_mutex_destroy(&reference);
	}
	return mutex->__data.__kind == atomic_load_explicit(&kind, memory_order_relaxed);
#else
	return mutex != NULL;
#endif
}

/*
 * Sleep in short slices. A wakeup is lost if the woken thread is killed before it has the lock and
 * another thread takes the lock in between.
 */
static int lock_in_slices(pthread_mutex_t *mutex, u64 nsec)
{
	u64 now = ktime_get_ns(), end = now + nsec;
	int error;

	do {
		u64 until = end - now < LOCK_SLICE_NSEC ? end : now + LOCK_SLICE_NSEC;
		struct timespec ts = {.tv_sec = (time_t)(until / 1000000000),
				      .tv_nsec = (long)(until % 1000000000)};

		error = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &ts);
		now = ktime_get_ns();
	} while (error == ETIMEDOUT && now < end);
	return error;
}

int pool_mutex_lock(pthread_mutex_t *mutex, u64 nsec)
{
	int error;

	if (unlikely(!mutex_ok(mutex)))
		return -ENOTRECOVERABLE;
	error = pthread_mutex_trylock(mutex);
	for (int spin = 0; error == EBUSY && spin < LOCK_SPINS; spin++) {
#if defined(__x86_64__)
		__builtin_ia32_pause();
#endif
		error = pthread_mutex_trylock(mutex);
	}
	if (error == EBUSY)
		error = lock_in_slices(mutex, nsec);
	if (error == EOWNERDEAD)
		pthread_mutex_consistent(mutex);
	if (error == 0 || error == EOWNERDEAD)
		return error;
	return error == ETIMEDOUT ? -EBUSY : -ENOTRECOVERABLE;
}
