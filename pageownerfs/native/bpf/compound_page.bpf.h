/* SPDX-License-Identifier: MIT */
/* Compound pages, as struct page describes them: which page is the head, and the order. */
#ifndef PAGEOWNERFS_COMPOUND_PAGE_BPF_H
#define PAGEOWNERFS_COMPOUND_PAGE_BPF_H

#include "bpf/kernel_types.bpf.h"

/* compound_order() of a head page, from the lowest bits of the second page's flags */
static __always_inline u32 folio_order(u64 folio)
{
	if (!(read_word(folio) & 1UL << bpf_core_enum_value(enum pageflags, PG_head)))
		return 0;
	return read_word(folio + bpf_core_type_size(struct page)) & 0x1f;
}

/* The word whose lowest bit marks a tail page. */
static __always_inline u64 compound_info(u64 page)
{
	if (bpf_core_field_exists(((struct page___7_1 *)0)->compound_info))
		return read_word(page + bpf_core_field_offset(struct page___7_1, compound_info));
	return read_word(page + bpf_core_field_offset(struct page, compound_head));
}

static __always_inline bool is_tail_page(u64 page)
{
	return compound_info(page) & 1;
}

/*
 * compound_head(). A tail page has the address of its head. Since 7.1, if struct page has 64 bytes
 * and hugetlb's vmemmap is optimized, it has a mask instead, which turns the tail's address into
 * the head's. A mask has its upper 32 bits set; the address of a struct page never has.
 */
static __always_inline u64 compound_head(u64 page)
{
	u64 info = compound_info(page);

	if (!(info & 1))
		return page;
	return info >> 32 == 0xffffffff ? page & info : info - 1;
}

static __always_inline u32 page_order(u64 page)
{
	return folio_order(compound_head(page));
}

#endif
