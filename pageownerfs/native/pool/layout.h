/* SPDX-License-Identifier: MIT */
/*
 * The layout of a pool: a page allocator in one shared-memory file, which processes map and operate
 * on directly.
 *
 * struct pool_header has the offsets of the regions. Every region is page-aligned:
 *
 *   PFN 0             struct pool_header, with the zones; a reserved page
 *   PFN 1 and up      the page frames; PFN n starts at byte n * PAGE_SIZE
 *   mem_map           struct page of every PFN
 *   pageblock_flags   the migratetype of each pageblock, one byte each
 *   clients           struct pool_client, NR_CLIENTS of them
 *   depot             the stack depot: its hash table, then the objects
 *
 * page_ext lies among the page frames, at the end of the last zone below Movable: like the
 * kernel's, it takes up some of the memory that it describes.
 *
 * The file is sparse. Memory is committed with fallocate() before it is first touched, so when
 * /dev/shm is full, the call that needs memory fails and nobody gets a SIGBUS.
 *
 * Crash safety: page->word is the only truth about a page, and each change of ownership is one
 * store to it. Free lists, counters and order-0 lists are derived from the words. Whoever finds
 * that the holder of a lock or a client has died can rebuild them.
 */
#ifndef PAGEOWNERFS_LAYOUT_H
#define PAGEOWNERFS_LAYOUT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/mmzone.h"
#include "base/page_owner.h"

#ifndef CONFIG_PAGE_OWNER
#define CONFIG_PAGE_OWNER 1
#endif

#define POOL_MAGIC 0x52454e574f454750ULL /* "PGEOWNER" */
#define POOL_ABI_VERSION 2

#define MAX_NR_PAGES (1U << 30) /* 4 TiB; PFNs fit into u32 with room to spare */
#define NR_CLIENTS 1024
#define PCP_HIGH_MAX 256
#define MAX_STACK_DEPTH 64

enum zone_type { ZONE_DMA, ZONE_NORMAL, ZONE_MOVABLE, MAX_NR_ZONES };
#define DMA_END_PFN (16U << (20 - PAGE_SHIFT))

/* page->flags, as 6.12 numbers them; the zone is in the top two bits. */
#define PG_head 6
#define PG_reserved 13
#define ZONES_PGSHIFT 62

/*
 * page->word: refcount in bits 0-31, order 32-39, state 40-47, client slot 48-63. In a PAGE_BUDDY
 * word the low bits are BUDDY_*: how much of the block is backed by memory.
 */
enum page_state {
	PAGE_FREE,	/* inside a free block */
	PAGE_BUDDY,	/* head of a free block, on a free list */
	PAGE_PCP,	/* owned by a client: on its order-0 list, or on the way to or from it */
	PAGE_ALLOCATED, /* head of an allocated block */
	PAGE_TAIL,	/* rest of an allocated block */
	PAGE_RESERVED,
};
#define BUDDY_HOLE 1	  /* part of the block has no memory: fallocate() before use */
#define BUDDY_POPULATED 2 /* part of it may have memory, which could be given back */

#define PAGE_WORD(state, order, slot, low)                                                         \
	((u64)(u32)(low) | (u64)(order) << 32 | (u64)(state) << 40 | (u64)(slot) << 48)
#define word_count(w) ((u32)(w))
#define word_order(w) ((unsigned int)((w) >> 32 & 0xff))
#define word_state(w) ((enum page_state)((w) >> 40 & 0xff))
#define word_slot(w) ((unsigned int)((w) >> 48))

struct page {
	u64 flags;
	_Atomic u64 word;
	u32 next, prev; /* free list links: PFNs, 0 = none */
	u32 gfp_mask;	/* of the allocation: identifies movable pages when a pageblock is stolen */
	u32 list_migratetype; /* which list a free block is on */
};

struct free_area {
	u32 free_list[MIGRATE_TYPES]; /* PFN of the first block, 0 = none */
	u32 nr_free[MIGRATE_TYPES];   /* blocks */
};

struct zone {
	pthread_mutex_t lock; /* robust, process-shared */
	u32 start_pfn, end_pfn;
	u32 present_pages, managed_pages;
	u64 nr_free; /* base pages on the free lists */
	u64 nr_free_cma;
	u64 nr_reserved_highatomic;
	u32 nr_populated; /* free blocks with BUDDY_POPULATED */
	u64 watermark[3]; /* min, low, high */
	u64 lowmem_reserve[MAX_NR_ZONES];
	u32 pcp_batch, pcp_high;
	struct free_area free_area[NR_PAGE_ORDERS];
};
enum { WMARK_MIN, WMARK_LOW, WMARK_HIGH };

/* A client's order-0 list for one zone and migratetype, the kernel's struct per_cpu_pages. */
struct pcp {
	u32 count;
	u32 pfn[PCP_HIGH_MAX];
};

/*
 * Page counts of stacks that a client keeps for itself, so that clients don't all write to the
 * shared counts in the depot.
 */
#define STACK_PAGES_SLOTS 64
#define stack_pages_slot(handle) ((u32)((handle) * 0x9e3779b1u) >> 26)
_Static_assert(STACK_PAGES_SLOTS == 1 << (32 - 26), "as many slots as the hash has values");

/* One attached process. It is alive as long as the OFD lock on its byte of the file is held. */
struct pool_client {
	_Atomic u32 in_op;  /* 1 while inside the allocator, see begin_op() */
	_Atomic u32 active; /* 0 = the slot is free */
	s32 pid, tgid;
	u64 attached_nsec;
	/* base pages ever allocated and freed by the clients of this slot */
	u64 pgalloc, pgfree;
	u64 pgsplit; /* base pages of the blocks they have split */
	char comm[TASK_COMM_LEN];
	/* handle << 32 | pages not yet added to the count in the depot */
	_Atomic u64 stack_pages[STACK_PAGES_SLOTS];
	struct pcp pcp[MAX_NR_ZONES][MIGRATE_PCPTYPES];
};

/* pool_header.gate */
#define GATE_PAGE_OWNER 1 /* tracking is on */
#define GATE_FROZEN 2	  /* clients must not start another operation */

struct pool_stats {
	_Atomic u64 oom, commit_failed;
	_Atomic u64 dead_clients, recovered_pages, zone_rebuilds;
	_Atomic u64 reported_pages;
	_Atomic u64 early_pages;
	_Atomic u64 stack_depot_failed;
	_Atomic u64 stack_depot_stacks;
};

struct pool_header {
	u64 magic;
	u32 abi_version;
	u32 header_bytes; /* sizeof(struct pool_header); checked on attach, like the next three */
	u32 page_bytes, client_bytes, page_owner_bytes;
	u32 nr_pages;
	u32 page_ext_pfn, nr_page_ext_pages; /* the location of page_ext */
	u32 stack_depth;
	u32 page_group_by_mobility_disabled;
	u64 mem_map_offset, pageblock_offset, clients_offset, depot_offset;
	u64 depot_bytes, file_bytes;
	u64 created_nsec;
	u32 early_handle, failure_handle;
	_Atomic u32 nr_clients; /* slots backed by memory; the others must not be touched */
	_Atomic u32 gate;
	_Atomic u32 depot_ready;
	_Atomic u32 nr_listed_stacks;
	/* a client died inside an operation: the stacks' page counts may be wrong */
	_Atomic u32 stacks_suspect;
	_Atomic u32 membarrier_slow;  /* a client could not register for expedited membarriers */
	pthread_mutex_t clients_lock; /* protects taking and returning slots */
	pthread_mutex_t freeze_lock;
	pthread_mutex_t depot_lock;
	_Atomic u64 depot_used, depot_committed;
	struct pool_stats stats;
	struct zone zones[MAX_NR_ZONES];
};
_Static_assert(sizeof(struct pool_header) <= PAGE_SIZE, "the header is PFN 0");
_Static_assert(sizeof(struct page) == 32, "struct page");

/* Bytes far beyond the end of the file that carry OFD locks. Whoever holds one is alive. */
#define POOL_DAEMON_BYTE (1LL << 62)
#define POOL_CLIENT_BYTE (POOL_DAEMON_BYTE + 1)

#define DEPOT_HASH_ORDER 16
#define DEPOT_HASH_BYTES (sizeof(u32) << DEPOT_HASH_ORDER)

/*
 * This process's view of a pool. Sizes and offsets are copies that were checked on attach: a client
 * that later overwrites the header cannot make other processes access memory outside of the
 * mapping.
 */
struct pool {
	char *base;
	struct pool_header *header;
	struct page *mem_map;
	u8 *pageblock_flags;
	struct pool_client *clients;
	struct pool_client *client; /* ours; NULL until the first operation, and after fork() */
	unsigned int slot;
	_Atomic s32 frozen_by; /* thread of this process that has frozen the pool, 0 = none */
	struct page_owner *page_ext;
	u32 *depot_hash;
	char *depot;
	u32 nr_pages, nr_pageblocks;
	u32 page_ext_pfn, nr_page_ext_pages;
	u32 stack_depth;
	bool mobility_disabled;
	u64 depot_bytes; /* of the objects, without the hash table */
	u64 file_bytes;
	struct {
		u32 start_pfn, end_pfn;
	} zone_span[MAX_NR_ZONES];
	u32 pcp_batch[MAX_NR_ZONES], pcp_high[MAX_NR_ZONES];
	u8 first_zone[MAX_NR_ZONES]; /* the highest populated zone at or below this one */
	int fd;
	struct pool *next; /* the list of this process's pools, for fork() */
};

static inline struct page *pfn_to_page(const struct pool *pool, u32 pfn)
{
	return &pool->mem_map[pfn];
}

static inline u64 page_word(const struct pool *pool, u32 pfn)
{
	return atomic_load_explicit(&pool->mem_map[pfn].word, memory_order_acquire);
}

static inline void set_page_word(struct pool *pool, u32 pfn, u64 word)
{
	atomic_store_explicit(&pool->mem_map[pfn].word, word, memory_order_release);
}

/* Does the word of a page say that it is on an order-0 list of this client? */
static inline bool page_on_pcp(const struct pool *pool, u32 pfn, unsigned int slot)
{
	return pfn < pool->nr_pages && page_word(pool, pfn) == PAGE_WORD(PAGE_PCP, 0, slot, 0);
}

static inline void *page_address(const struct pool *pool, u32 pfn)
{
	return pool->base + ((u64)pfn << PAGE_SHIFT);
}

static inline unsigned int get_pageblock_migratetype(const struct pool *pool, u32 pfn)
{
	unsigned int mt = pool->pageblock_flags[pfn >> PAGEBLOCK_ORDER];

	return likely(mt < MIGRATE_TYPES) ? mt : MIGRATE_MOVABLE;
}

static inline unsigned int page_zone(const struct pool *pool, u32 pfn)
{
	if (pfn < pool->zone_span[ZONE_DMA].end_pfn)
		return ZONE_DMA;
	return pfn < pool->zone_span[ZONE_NORMAL].end_pfn ? ZONE_NORMAL : ZONE_MOVABLE;
}

#define stat_inc(pool, name) atomic_fetch_add(&(pool)->header->stats.name, 1)
#define stat_add(pool, name, n) atomic_fetch_add(&(pool)->header->stats.name, (n))

static inline struct zone *pool_zone(const struct pool *pool, unsigned int zone)
{
	return &pool->header->zones[zone];
}

/* Sizes of a new pool in bytes, and the maximum number of frames per stack. */
struct pool_config {
	u64 size, movablecore, cma, stack_depot_bytes;
	u32 stack_depth;
};

/* Lay out the file of a new pool: fill in the header fields that follow from its size. */
void pool_layout(struct pool_header *header, const struct pool_config *config);
/*
 * Check that this is a pool of our version whose regions all lie within the file. -EMEDIUMTYPE: not
 * a pool; -EPROTO: a pool of another version; -EUCLEAN: an inconsistent header.
 */
int pool_check_header(const struct pool_header *header, u64 file_bytes);
/* Initialize the process's view from the header, which has been checked. */
void pool_adopt(struct pool *pool);

#endif
