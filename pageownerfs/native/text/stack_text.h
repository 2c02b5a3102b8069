/* SPDX-License-Identifier: MIT */
/* Parser of the lines after a record's PFN line: the stack and others. */
#ifndef PAGEOWNERFS_STACK_TEXT_H
#define PAGEOWNERFS_STACK_TEXT_H

#include "text/page_owner_text.h"

/* Parse these lines for a record whose head has been parsed. */
enum text_status text_parse_stack(const char *end, bool final, struct text_record *record);
/*
 * Copy a ragged stack to out, with plain newlines; out has stack_size + 1 bytes. Returns the size.
 */
size_t text_copy_stack(const struct text_record *record, char *out);
/* ALLOCATOR_VMALLOC for a stack of vmalloc(), otherwise 0. */
u8 text_stack_allocator(const char *stack, size_t size);
/* The name in the first brackets of a stack: the innermost module. Returns its size; 0: none. */
size_t text_stack_module(const char *stack, size_t size, const char **module);

#endif
