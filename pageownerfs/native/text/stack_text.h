/* SPDX-License-Identifier: MIT */
/* The lines behind a record's PFN line: a stack, and what else is known. */
#ifndef PAGEOWNERFS_STACK_TEXT_H
#define PAGEOWNERFS_STACK_TEXT_H

#include "text/page_owner_text.h"

/* Those of a record whose head is parsed. */
enum text_status text_parse_stack(const char *end, bool final, struct text_record *record);
/* The stack, if ragged with plain newlines, into out of stack_size + 1 bytes; its size. */
size_t text_copy_stack(const struct text_record *record, char *out);
/* ALLOCATOR_VMALLOC if it is a stack of vmalloc(), or 0. */
u8 text_stack_allocator(const char *stack, size_t size);
/* The name in the first brackets of a stack, the innermost module; its size, 0: none. */
size_t text_stack_module(const char *stack, size_t size, const char **module);

#endif
