// SPDX-License-Identifier: MIT
/*
 * hash.c - the object whose address seeds the hash functions.
 */
#include "base/hash.h"

const char hash_seed[1];
