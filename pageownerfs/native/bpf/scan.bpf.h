/* SPDX-License-Identifier: MIT */
/* Programs that look at struct page. The daemon runs them with BPF_PROG_TEST_RUN. */
#ifndef PAGEOWNERFS_SCAN_BPF_H
#define PAGEOWNERFS_SCAN_BPF_H

#include "base/page_scan.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct page_scan);
} page_scan SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scan_request);
} scan_request SEC(".maps");

/* Names of the cgroups that scanned pages are charged to, by kernfs id. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct cgroup_name);
} cgroup_names SEC(".maps");

#define page_field(page, field) read_word((page) + bpf_core_field_offset(struct page, field))

/* ---- finding the kernel's tables ---- */

/*
 * Records the pages that the daemon's page faults get; the daemon compares them with its
 * /proc/self/pagemap.
 */
SEC("raw_tp/mm_page_alloc")
int calibrate(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0;
	struct scan_request *request = bpf_map_lookup_elem(&scan_request, &zero);
	struct bpf_pidns_info ids = {};

	if (!request || !current_ids(&ids) || ids.tgid != request->tgid || ctx->args[1] != 0 ||
	    request->nr_pages >= CALIBRATION_PAGES)
		return 0;
	u32 nr = request->nr_pages & (CALIBRATION_PAGES - 1);

	request->pid_tgid = bpf_get_current_pid_tgid();
	request->page[nr] = ctx->args[0];
	request->nr_pages++;
	return 0;
}

static __always_inline u64 read_safe(u64 address)
{
	u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

#define SECTION_FLAGS 0x1ffUL
#define SECTION_HAS_MEM_MAP 2
#define sections_per_root() (4096 / bpf_core_type_size(struct mem_section))

/* The section of a PFN in mem_section[]; 0: none (CONFIG_SPARSEMEM_EXTREME). */
static __always_inline u64 pfn_to_section(u64 mem_section, u64 pfn)
{
	u64 number = pfn >> config.section_shift, root = read_safe(mem_section), section;

	if (!root)
		return 0;
	section = read_safe(root + number / sections_per_root() * 8);
	return section ? section + number % sections_per_root() *
					   bpf_core_type_size(struct mem_section)
		       : 0;
}

/*
 * Each section has the address where its part of mem_map would start if it started at PFN 0. That
 * is vmemmap.
 */
static __always_inline bool is_mem_section(u64 candidate)
{
	u64 section = pfn_to_section(candidate, 0), map;

	if (!section)
		return false;
	map = read_safe(section + bpf_core_field_offset(struct mem_section, section_mem_map));
	return map & SECTION_HAS_MEM_MAP && (map & ~SECTION_FLAGS) == addresses.vmemmap_base;
}

static long try_mem_section(u32 index, struct scan_request *const *request)
{
	u64 at = (*request)->start + index, code = read_safe(at), candidate;

	/* mov disp(%rip), %reg */
	if ((code & 0xc7fffb) != 0x058b48)
		return 0;
	candidate = at + 7 + (s64)(s32)(code >> 24);
	if (!is_mem_section(candidate))
		return 0;
	addresses.mem_section = candidate;
	return 1;
}

/* Find the variable mem_section: it is at start, or the code in [start, end) refers to it. */
SEC("syscall")
int find_mem_section(void *ctx)
{
	u32 zero = 0;
	struct scan_request *request = bpf_map_lookup_elem(&scan_request, &zero);

	(void)ctx;
	if (!request)
		return 1;
	if (request->end == 0) {
		if (is_mem_section(request->start))
			addresses.mem_section = request->start;
		return 0;
	}
	bpf_loop((u32)(request->end - request->start), try_mem_section, &request, 0);
	return 0;
}

/* ---- pages ---- */

/* What scan_pages knows of the previous page: neighbours have much in common. */
struct last_page {
	u64 section_number, usage; /* section_number is the number + 1 */
	u64 memcg_data, memcg;
} last_page SEC(".data.last_page") = {};

static __always_inline u8 get_pageblock_migratetype(u64 pfn)
{
	u64 number = (pfn >> config.section_shift) + 1, section, usage, word, bit, bits;

	if (!addresses.mem_section)
		return NO_MIGRATETYPE;
	if (last_page.section_number != number) {
		section = pfn_to_section(addresses.mem_section, pfn);
		last_page.usage = section ? read_word(section + bpf_core_field_offset(
									struct mem_section, usage))
					  : 0;
		last_page.section_number = number;
	}
	usage = last_page.usage;
	if (!usage)
		return NO_MIGRATETYPE;
	bits = bpf_core_enum_value_exists(enum pageblock_bits, PB_migrate_isolate) ? 8 : 4;
	bit = ((pfn & ((1UL << config.section_shift) - 1)) >> config.pageblock_order) * bits;
	word = read_word(usage + bpf_core_field_offset(struct mem_section_usage, pageblock_flags) +
			 bit / 64 * 8) >>
	       bit % 64;
	if (bpf_core_enum_value_exists(enum pageblock_bits, PB_migrate_isolate) &&
	    word & 1UL << bpf_core_enum_value(enum pageblock_bits, PB_migrate_isolate))
		return (u8)bpf_core_enum_value(enum migratetype, MIGRATE_ISOLATE);
	return word & 7;
}

#define MEMCG_DATA_SLAB 1
#define MEMCG_DATA_KMEM 2
#define MEMCG_DATA_MASK 7UL
#define CSS_ONLINE 2

/* print_page_owner_memcg(): the value of page_info.memcg. */
static __always_inline u64 memcg_of(u64 data)
{
	u64 memcg, kn, id, name;
	struct cgroup_name text = {};

	if (data & MEMCG_DATA_SLAB)
		return PAGE_MEMCG_SLAB;
	memcg = data & ~MEMCG_DATA_MASK;
	/* Since 7.1 all charges go through an obj_cgroup. */
	if (data & MEMCG_DATA_KMEM ||
	    bpf_core_field_exists(((struct obj_cgroup___7_1 *)0)->is_root))
		memcg = read_word(memcg + bpf_core_field_offset(struct obj_cgroup, memcg));
	if (!memcg)
		return 0;
	memcg += bpf_core_field_offset(struct mem_cgroup, css);
	kn = read_word(memcg + bpf_core_field_offset(struct cgroup_subsys_state, cgroup));
	kn = kn ? read_word(kn + bpf_core_field_offset(struct cgroup, kn)) : 0;
	if (!kn)
		return 0;
	id = read_word(kn + bpf_core_field_offset(struct kernfs_node, id));
	if (!bpf_map_lookup_elem(&cgroup_names, &id)) {
		name = read_word(kn + bpf_core_field_offset(struct kernfs_node, name));
		bpf_probe_read_kernel_str(text.name, sizeof(text.name), (void *)name);
		bpf_map_update_elem(&cgroup_names, &id, &text, BPF_ANY);
	}
	return id << PAGE_MEMCG_ID_SHIFT | (data & MEMCG_DATA_KMEM ? PAGE_MEMCG_KMEM : 0) |
	       ((u32)read_word(memcg + bpf_core_field_offset(struct cgroup_subsys_state, flags)) &
				CSS_ONLINE
			? PAGE_MEMCG_ONLINE
			: 0);
}

static __always_inline u64 page_memcg(u64 page)
{
	u64 data;

	if (!bpf_core_field_exists(((struct page *)0)->memcg_data))
		return 0;
	data = page_field(page, memcg_data);
	if (!data)
		return 0;
	if (data != last_page.memcg_data) {
		last_page.memcg = memcg_of(data);
		last_page.memcg_data = data;
	}
	return last_page.memcg;
}

static long scan_page(u32 index, struct page_scan *const *scan)
{
	struct page_info *info;
	u64 pfn, page;

	if (index >= PAGE_SCAN_BATCH)
		return 1;
	info = &(*scan)->info[index];
	pfn = (*scan)->pfn[index];
	page = pfn_to_page(pfn);
	info->flags = read_word(page);
	info->memcg = page_memcg(page);
	info->pageblock_migratetype = get_pageblock_migratetype(pfn);
	if (info->pageblock_migratetype == NO_MIGRATETYPE) {
		struct page_owner *owner = get_page_owner((u32)pfn);

		info->pageblock_migratetype = owner ? owner->pageblock_migratetype : 0;
	}
	return 0;
}

/* Look up flags, cgroup and pageblock migratetype of the pages pfn[]. */
SEC("syscall")
int scan_pages(void *ctx)
{
	u32 zero = 0;
	struct page_scan *scan = bpf_map_lookup_elem(&page_scan, &zero);

	(void)ctx;
	if (!scan)
		return 1;
	/* Anything remembered from the last run may have changed. */
	last_page.section_number = last_page.memcg_data = 0;
	bpf_loop(scan->nr, scan_page, &scan, 0);
	return 0;
}

/*
 * PageBuddy(). Since 6.12 the page type is the upper byte; before, each type is a bit that is
 * cleared.
 */
static __always_inline bool is_buddy(u32 type)
{
	if (bpf_core_enum_value_exists(enum pagetype, PGTY_buddy))
		return type >> 24 == bpf_core_enum_value(enum pagetype, PGTY_buddy);
	if (bpf_core_enum_value_exists(enum pagetype___6_10, PG_buddy))
		return (type & (0x80000000 |
				bpf_core_enum_value(enum pagetype___6_10, PG_buddy))) == 0x80000000;
	return (type & 0xf0000080) == 0xf0000000;
}

/* Is this a page without a reference count but with a type, such as a slab page or page table? */
static __always_inline bool is_typed(u32 type)
{
	u32 kind = type >> 24;

	if (bpf_core_enum_value_exists(enum pagetype, PGTY_buddy))
		return kind >= 0xf0 && kind < 0xff &&
		       !(bpf_core_enum_value_exists(enum pagetype, PGTY_offline) &&
			 kind == bpf_core_enum_value(enum pagetype, PGTY_offline)) &&
		       !(bpf_core_enum_value_exists(enum pagetype, PGTY_guard) &&
			 kind == bpf_core_enum_value(enum pagetype, PGTY_guard));
	return false;
}

static __always_inline bool is_counted(u64 page)
{
	return (s32)page_field(page, _refcount.counter) > 0 ||
	       is_typed((u32)page_field(page, page_type));
}

enum page_use { PAGE_FREE, PAGE_USED, PAGE_RESERVED, PAGE_MISSING };

/* How a page is used, as init_pages_in_zone() sees it; *nr: how many pages this is true of. */
static __always_inline enum page_use page_use(u64 page, u32 *nr)
{
	u64 flags = read_word(page), order;
	u32 type = (u32)page_field(page, page_type);

	*nr = 1;
	/* missing: a hole, which reads as zeros, or not initialized yet */
	if (flags == ~0UL || (type == 0 && flags == 0 && page_field(page, _refcount.counter) == 0))
		return PAGE_MISSING;
	if (is_buddy(type)) {
		order = page_field(page, private);
		if (order <= 10)
			*nr = 1U << order;
		return PAGE_FREE;
	}
	if (flags & 1UL << bpf_core_enum_value(enum pageflags, PG_reserved))
		return PAGE_RESERVED;
	return is_counted(compound_head(page)) ? PAGE_USED : PAGE_FREE;
}

/*
 * Is a page free although its record says allocated? A page without a reference may also be a huge
 * page waiting in hugetlb's pool, which stays compound, or a tail of a block that is not compound.
 */
static __always_inline bool is_stale(u64 pfn, u32 order, enum page_use use)
{
	u64 page = pfn_to_page(pfn);
	u32 nr;

	if (use != PAGE_FREE || is_tail_page(page) ||
	    read_word(page) & 1UL << bpf_core_enum_value(enum pageflags, PG_head))
		return false;
	return order == 0 ||
	       page_use(pfn_to_page(pfn & ~((1UL << (order & 31)) - 1)), &nr) == PAGE_FREE;
}

static long scan_owner(u32 index, struct scan_request *const *at)
{
	struct scan_request *request = *at;
	u64 pfn = request->start + index;
	struct page_owner *owner;
	u32 old, new, nr, suspect = PAGE_EXT_OWNER_SUSPECT << STATE_SHIFT;
	enum page_use use;
	bool allocated;

	if (!request->again && pfn < request->next)
		return 0;
	owner = get_page_owner((u32)pfn);
	if (!owner)
		return 1;
	old = *(volatile u32 *)state_word(owner);
	allocated = old >> STATE_SHIFT & PAGE_EXT_OWNER_ALLOCATED;
	if (allocated ? !request->again : request->owners_only || pfn < request->next)
		return 0;
	use = page_use(pfn_to_page(pfn), &nr);
	/* Missing pages come in whole pageblocks, and looking at each of them costs a fault. */
	if (use == PAGE_MISSING && !(pfn & ((1UL << config.pageblock_order) - 1)))
		nr = 1U << config.pageblock_order;
	if (use != PAGE_USED && pfn >= request->next)
		request->next = pfn + nr;
	if (allocated ? !is_stale(pfn, (u8)old, use) : use != PAGE_USED) {
		if (old & suspect)
			__sync_val_compare_and_swap(state_word(owner), old, old & ~suspect);
		return 0;
	}
	/*
	 * An allocation that has not reached its tracepoint yet looks like one that nobody has
	 * seen. So, except in the first scan, a page must be found twice, some time apart, with no
	 * event in between.
	 */
	if (request->again && !(old & suspect)) {
		__sync_val_compare_and_swap(state_word(owner), old, old | suspect);
		request->nr_suspects++;
		return 0;
	}
	new = old & ~((PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY | PAGE_EXT_OWNER_SUSPECT)
		      << STATE_SHIFT);
	if (!allocated)
		new = (new & ~0xffU) | 0xff00 |
		      (PAGE_EXT_OWNER_ALLOCATED | PAGE_EXT_OWNER_EARLY) << STATE_SHIFT;
	if (__sync_val_compare_and_swap(state_word(owner), old, new) != old)
		return 0;
	if (allocated)
		request->nr_stale++;
	else
		request->nr_marked++;
	return 0;
}

/*
 * init_pages_in_zone(): find the pages in [start, end) that are allocated and have no record. Later
 * scans also find records of pages that are free. No event has reported either kind.
 */
SEC("syscall")
int scan_early(void *ctx)
{
	u32 zero = 0;
	struct scan_request *request = bpf_map_lookup_elem(&scan_request, &zero);

	(void)ctx;
	if (!request)
		return 1;
	request->next = 0;
	bpf_loop((u32)(request->end - request->start), scan_owner, &request, 0);
	return 0;
}

#endif
