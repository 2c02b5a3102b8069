// SPDX-License-Identifier: MIT
/*
 * hash.c - a place in the program.
 */
#include "base/hash.h"

const char hash_seed[1];
