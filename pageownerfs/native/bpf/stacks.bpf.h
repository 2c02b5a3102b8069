/* SPDX-License-Identifier: MIT */
/*
 * Call stacks: a stack depot that is also an unwinder.
 *
 * The depot is a tree. A node is a return address, its parent is the node of the callee; a stack is
 * the node of its outermost frame, and the number of that node is the handle.
 *
 * A stack that was seen before is found without unwinding. The address of the program's context is
 * a position on the kernel stack, and each node knows how far up the next return address is. So the
 * walk reads the actual return addresses from this very stack, one per frame, and each must be a
 * child of the previous node. If the walk can't continue, the kernel unwinds the stack, and the
 * walk learns from the result.
 *
 * Where the distance varies, a node keeps two alternatives: an exception aligns the stack, and the
 * first frame of a system call has a random size, but the frame above it is at a fixed distance
 * from the top of the stack. Walking works on x86-64 only; elsewhere every stack is unwound and the
 * tree is just the depot.
 */
#ifndef PAGEOWNERFS_STACKS_BPF_H
#define PAGEOWNERFS_STACKS_BPF_H

#include "bpf/kernel_types.bpf.h"
#include "bpf/kernel_source.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stack_bucket);
} stack_depot SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cpu_state);
} cpu_states SEC(".maps");

extern void *bpf_rdonly_cast(const void *object, u32 btf_id) __ksym __weak;

#define THREAD_SIZE 16384UL

/*
 * Read a word of kernel memory, 0 if there is none: a single load if the kernel can check it (6.2),
 * otherwise a helper call.
 */
static __always_inline u64 read_word(u64 address)
{
	u64 word = 0;

	if (bpf_rdonly_cast) {
		struct timespec64 *any = bpf_rdonly_cast(
			(void *)address, bpf_core_type_id_kernel(struct timespec64));

		return (u64)any->tv_sec;
	}
	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

static __always_inline u32 stack_hash(u64 key)
{
	key *= 0x9e3779b97f4a7c15ULL;
	return (u32)(key >> 32);
}

/* The two buckets where a key may be. The reserved buckets are never looked up. */
static __always_inline u32 stack_bucket_of(u32 hash, u32 choice)
{
	u32 bucket = (choice ? hash >> 7 | hash << 25 : hash) & (config.nr_stack_buckets - 1);

	return bucket < STACK_RESERVED_BUCKETS ? bucket + STACK_RESERVED_BUCKETS : bucket;
}

#define node_number(bucket, way) ((bucket) * STACK_WAYS + (way))

/* The number of the node with this key, 0: none. *next is what it knows of the next frame. */
static __always_inline u32 find_node(u64 key, u64 *next)
{
	u32 hash = stack_hash(key);

	for (u32 choice = 0; choice < 2; choice++) {
		u32 number = stack_bucket_of(hash, choice);
		struct stack_bucket *bucket = bpf_map_lookup_elem(&stack_depot, &number);

		if (!bucket)
			return 0;
#pragma unroll
		for (u32 way = 0; way < STACK_WAYS; way++) {
			if (bucket->node[way].key == key) {
				*next = bucket->node[way].next;
				return node_number(number, way);
			}
		}
	}
	return 0;
}

static __always_inline struct stack_node *get_node(u32 number)
{
	u32 way = number % STACK_WAYS;

	number /= STACK_WAYS;
	struct stack_bucket *bucket = bpf_map_lookup_elem(&stack_depot, &number);

	return bucket ? &bucket->node[way & (STACK_WAYS - 1)] : 0;
}

/*
 * Find or add a node; 0: both of its buckets are full. Other CPUs may do the same at the same time.
 */
static __always_inline u32 add_node(u64 key)
{
	u64 next;
	u32 hash = stack_hash(key), found = find_node(key, &next);

	if (found)
		return found;
	for (u32 choice = 0; choice < 2; choice++) {
		u32 number = stack_bucket_of(hash, choice);
		struct stack_bucket *bucket = bpf_map_lookup_elem(&stack_depot, &number);

		if (!bucket)
			return 0;
#pragma unroll
		for (u32 way = 0; way < STACK_WAYS; way++) {
			u64 before = __sync_val_compare_and_swap(&bucket->node[way].key, 0, key);

			if (before == 0 || before == key)
				return node_number(number, way);
		}
	}
	return 0;
}

/* The top of the stack that contains an address. */
static __always_inline u64 stack_top(u64 address)
{
	return (address | (THREAD_SIZE - 1)) + 1;
}

/* Where the next return address is. */
static __always_inline u64 next_place(u64 up, u64 position, u64 top)
{
	return up & NEXT_FROM_TOP ? top - NEXT_WORDS(up) * 8 : position + up * 8;
}

/* Follow the return addresses up from the program's context; 0: too little is known. */
static __always_inline u32 walk_stack(u32 root, u64 context)
{
	u64 position = context, top = stack_top(context), next, up, word, above;
	struct stack_node *node = get_node(root);
	u32 number = root, child;

	if (!node)
		return 0;
	next = node->next;
	for (u32 depth = 0;
	     depth < MAX_STACK_DEPTH && depth < config.stack_depth + STACK_EXTRA_FRAMES; depth++) {
		if (NEXT_OUTERMOST(next) && top - position == NEXT_OUTERMOST(next) * 8)
			return number;
		up = NEXT_UP(next);
		if (!up)
			return 0;
		above = 0;
		word = read_word(next_place(up, position, top));
		child = word >> 32 == config.text_high
				? find_node((u64)number << 32 | (u32)word, &above)
				: 0;
		if (!child) {
			up = NEXT_OTHER_UP(next);
			if (!up)
				return 0;
			word = read_word(next_place(up, position, top));
			child = word >> 32 == config.text_high
					? find_node((u64)number << 32 | (u32)word, &above)
					: 0;
			if (!child)
				return 0;
		}
		position = next_place(up, position, top);
		number = child;
		next = above;
	}
	return number;
}

/*
 * Callbacks of bpf_loop() keep all state they change in a map, and only a pointer to it on the
 * stack: up to Linux 6.7 the verifier checks just the first call, and takes what it finds on the
 * stack then for constant.
 */

/*
 * Find the lowest positions where all frames appear in order (locate_up), and the highest
 * (locate_down). Words left from earlier calls look like frames, too; where both agree, it is the
 * frame.
 */
static long locate_up(u32 word, struct cpu_state *const *at)
{
	struct cpu_state *state = *at;
	u32 frame = state->unwinding.frame;

	if (frame >= state->unwinding.nr || frame >= MAX_STACK_DEPTH || word >= STACK_WINDOW_WORDS)
		return 1;
	if (state->window[word] == state->ip[frame]) {
		state->low[frame] = (u16)word;
		state->unwinding.frame = frame + 1;
	}
	return 0;
}

static long locate_down(u32 index, struct cpu_state *const *at)
{
	struct cpu_state *state = *at;
	u32 frame = state->unwinding.frame - 1, word = state->unwinding.words - 1 - index;

	if (frame >= MAX_STACK_DEPTH || word >= STACK_WINDOW_WORDS)
		return 1;
	if (state->window[word] == state->ip[frame]) {
		state->high[frame] = (u16)word;
		state->unwinding.frame = frame;
	}
	return 0;
}

/* Find where the frames of ip[] are: low[] and high[]. */
static __always_inline bool locate_frames(struct cpu_state *state, u64 context)
{
	u64 bytes = stack_top(context) - context;

	if (bytes > sizeof(state->window))
		bytes = sizeof(state->window);
	barrier_var(bytes);
	if (bytes > sizeof(state->window) ||
	    bpf_probe_read_kernel(state->window, bytes, (void *)context))
		return false;
	state->unwinding.words = (u32)(bytes / 8);
	state->unwinding.frame = 0;
	bpf_loop(state->unwinding.words, locate_up, &state, 0);
	if (state->unwinding.frame != state->unwinding.nr)
		return false;
	bpf_loop(state->unwinding.words, locate_down, &state, 0);
	return state->unwinding.frame == 0;
}

/* Record that the frame after this node is this far up. */
static __always_inline void learn_up(struct cpu_state *state, struct stack_node *node, u64 up)
{
	u64 next = node->next, first = NEXT_UP(next), other = NEXT_OTHER_UP(next);

	if (first == up || other == up)
		return;
	if (first == 0) {
		first = up;
	} else if (up & NEXT_FROM_TOP && !(first & NEXT_FROM_TOP)) {
		other = first;
		first = up;
	} else if (other == 0) {
		other = up;
	} else {
		state->counter[COUNT_STACK_UNSTEADY]++;
		return;
	}
	node->next = NEXT_MAKE(first, other, NEXT_OUTERMOST(next), 0, 0, 0);
}

#define CERTAIN_TIMES 2

/*
 * The next frame may be this far up. That is certain once it was seen in several contexts, because
 * their stale words differ.
 */
static __always_inline void learn_candidate(struct cpu_state *state, struct stack_node *node,
					    u64 up, u64 context)
{
	u64 next = node->next, where = (context >> 4) * 0x9e3779b97f4a7c15ULL >> 52, times = 0;

	if (NEXT_UP(next) == up || NEXT_OTHER_UP(next) == up)
		return;
	if (NEXT_CANDIDATE(next) == up) {
		if (NEXT_WHERE(next) == where)
			return;
		times = NEXT_TIMES(next) + 1;
	}
	if (times >= CERTAIN_TIMES)
		learn_up(state, node, up);
	else
		node->next = NEXT_MAKE(NEXT_UP(next), NEXT_OTHER_UP(next), NEXT_OUTERMOST(next), up,
				       where, times);
}

/* Learn the distance of a frame from its callee's. */
static __always_inline void learn_frame(struct cpu_state *state, u32 frame, u32 parent_number,
					u32 number)
{
	struct unwinding *stack = &state->unwinding;
	bool outermost = stack->complete && frame + 1 == stack->nr;
	bool certain = state->low[frame] == state->high[frame];
	u64 place = state->low[frame], up = place - stack->position;
	u64 from_top = (stack_top(stack->context) - stack->context) / 8 - place;
	struct stack_node *parent = get_node(parent_number), *node = get_node(number);

	stack->position = place;
	if (!parent || !node)
		return;
	if (outermost && certain && from_top < 128)
		node->next = (node->next & ~(0x7fULL << 22)) | from_top << 22;
	if (outermost && certain && from_top < 128 &&
	    (!stack->certain || (NEXT_UP(parent->next) && NEXT_UP(parent->next) != up)))
		/* the size of the frame in between varies */
		learn_up(state, parent, from_top | NEXT_FROM_TOP);
	else if (up == 0 || up >= NEXT_FROM_TOP)
		state->counter[COUNT_STACK_UNSTEADY]++;
	else if (certain && stack->certain)
		learn_up(state, parent, up);
	else
		learn_candidate(state, parent, up, stack->context);
	stack->certain = certain;
}

static long insert_frame(u32 frame, struct cpu_state *const *at)
{
	struct cpu_state *state = *at;
	u32 parent = state->unwinding.number, number;

	if (frame >= state->unwinding.nr || frame >= MAX_STACK_DEPTH)
		return 1;
	number = state->ip[frame] >> 32 == config.text_high
			 ? add_node((u64)parent << 32 | (u32)state->ip[frame])
			 : 0;
	if (number && state->unwinding.located)
		learn_frame(state, frame, parent, number);
	state->unwinding.number = number;
	return number == 0;
}

/* Unwind the stack and add its frames to the tree. */
static __always_inline u32 unwind_stack(void *ctx, struct cpu_state *state, u32 root, u64 context,
					u32 skip)
{
	u32 frames = config.stack_depth + STACK_EXTRA_FRAMES;
	struct unwinding *stack = &state->unwinding;
	long bytes;

	if (frames > MAX_STACK_DEPTH)
		frames = MAX_STACK_DEPTH;
	bytes = bpf_get_stack(ctx, state->ip, frames * 8, skip);
	if (bytes <= 0) {
		state->counter[COUNT_STACK_FAILED]++;
		return HANDLE_FAILURE;
	}
	stack->nr = (u32)bytes / 8;
	stack->complete = stack->nr < frames;
	stack->context = context;
	stack->position = 0;
	stack->number = root;
	stack->certain = true;
	stack->located = config.stack_walk && context && locate_frames(state, context);
	if (!stack->located && config.stack_walk && context)
		state->counter[COUNT_STACK_UNCLEAR]++;
	bpf_loop(stack->nr, insert_frame, &state, 0);
	if (stack->number)
		return stack->number;
	state->counter[COUNT_STACK_DEPOT_FULL]++;
	return HANDLE_FAILURE;
}

/* What a walk starts from. */
enum anchor {
	ANCHOR_NONE,	/* don't walk: rarely run programs are smaller without the walk */
	ANCHOR_CONTEXT, /* the program's context, which lies on the stack */
	/* the stack pointer in the registers that the context begins with: it lies elsewhere */
	ANCHOR_REGS
};

/* Where on the stack a walk starts. */
static __always_inline u64 anchor_address(void *ctx, struct cpu_state *state, enum anchor anchor)
{
	u64 context;

	/*
	 * The verifier allows no arithmetic on contexts, but a value read from memory is a number.
	 */
	state->context = (u64)ctx;
	context = *(volatile u64 *)&state->context;
	if (anchor == ANCHOR_REGS)
		return read_word(read_word(context) + bpf_core_field_offset(struct pt_regs, sp));
	return context;
}

/* The handle of the stack that led to a program. */
static __always_inline u32 save_stack(void *ctx, struct cpu_state *state, u32 root,
				      enum anchor anchor)
{
	/* Skip the program and its caller. The registers are those of the frame above. */
	u32 handle, skip = anchor == ANCHOR_REGS ? 0 : STACK_SKIP_FRAMES;
	u64 context;

	if (config.stack_depth == 0)
		return root;
	if (!config.stack_walk || anchor == ANCHOR_NONE) {
		state->counter[COUNT_STACK_UNWOUND]++;
		return unwind_stack(ctx, state, root, 0, skip);
	}
	context = anchor_address(ctx, state, anchor);
	handle = walk_stack(root, context);
	if (handle && (++state->counter[COUNT_STACK_WALKED] & (config.stack_check_every - 1)))
		return handle;
	state->counter[COUNT_STACK_UNWOUND]++;
	u32 unwound = unwind_stack(ctx, state, root, context, skip);
	if (handle) {
		state->counter[COUNT_STACK_CHECKED]++;
		if (unwound != handle)
			state->counter[COUNT_STACK_WRONG]++;
	}
	return unwound;
}

/* ---- the user's stack, below the kernel's ---- */

/*
 * Processes whose addresses are in the depot, with their numbers in the daemon's PID namespace, 0
 * if outside of it. The daemon reads their mappings while they live.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, u32);
} user_tasks SEC(".maps");

static long insert_user_frame(u32 frame, struct cpu_state *const *at)
{
	struct cpu_state *state = *at;
	u32 number = state->unwinding.number;
	u64 ip;

	if (frame >= state->unwinding.nr || frame >= MAX_STACK_DEPTH)
		return 1;
	ip = state->ip[frame];
	number = add_node((u64)number << 32 | ip >> 32);
	if (number)
		number = add_node((u64)number << 32 | (u32)ip);
	state->unwinding.number = number;
	return number == 0;
}

/*
 * Append the process, then two nodes for each address. A process id is less than the lower half of
 * any kernel address (x86-64), so it can't be mistaken for a kernel frame.
 */
static __always_inline u32 add_user_stack(void *ctx, struct cpu_state *state, u32 handle, u32 tgid)
{
	struct unwinding *stack = &state->unwinding;
	u32 frames = config.user_depth < MAX_STACK_DEPTH ? config.user_depth : MAX_STACK_DEPTH;
	struct bpf_pidns_info ids = {};
	long bytes;

	if (handle < STACK_RESERVED_BUCKETS * STACK_WAYS)
		return handle;
	bytes = bpf_get_stack(ctx, state->ip, frames * 8, BPF_F_USER_STACK);
	if (bytes <= 0)
		return handle; /* a kernel thread */
	stack->nr = (u32)bytes / 8;
	stack->number = add_node((u64)handle << 32 | tgid);
	if (!bpf_map_lookup_elem(&user_tasks, &tgid)) {
		if (!current_ids(&ids))
			ids.tgid = 0;
		bpf_map_update_elem(&user_tasks, &tgid, &ids.tgid, BPF_ANY);
	}
	if (stack->number)
		bpf_loop(stack->nr, insert_user_frame, &state, 0);
	if (stack->number)
		return stack->number;
	state->counter[COUNT_STACK_DEPOT_FULL]++;
	return handle;
}

#endif
