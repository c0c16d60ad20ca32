/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Counting in the kernel, by what user space asks for: calls, or how long they took. Nothing
 * is sent; user space reads the map.
 */

/* Set by user space before the object is loaded. */
const volatile __u64 linear_step = 0;	/* nanoseconds; 0: slots are powers of two */
const volatile __u64 linear_min = 0;
const volatile __u32 slots_used = TALLY_SLOTS;	/* of a linear histogram, with those outside */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);	/* user space: an array, of functions alone */
	__uint(max_entries, 1);		/* user space: groups that there is room for */
	__uint(key_size, sizeof(struct group));		/* user space: as much as is asked for */
	__uint(value_size, sizeof(struct tally));	/* user space: mere counts need no more */
} GROUPS SEC(".maps");

/* A group's beginning. */
static const struct tally no_tally = {};

/* Whose call it is, as the scratch's event has it. */
static __always_inline void find_group(struct scratch *scratch)
{
	struct call_event *event = &scratch->event;
	struct group *group = &scratch->group;

	group->function = group_by & BY_FUNCTION ? event->function : 0;
	if (!(group_by & ~BY_FUNCTION))		/* the whole key */
		return;
	group->pid = group_by & BY_PID ? event->pid : 0;
	group->tid = group_by & BY_TID ? event->tid : 0;
	group->cpu = group_by & BY_CPU ? event->cpu : 0;
	group->uid = group_by & BY_UID ? event->uid : 0;
	group->padding = 0;
	group->value = group_by & BY_VALUE ? event->values[0] : 0;
	group->kernel_stack = group_by & BY_KERNEL_STACK ? event->kernel_stack : 0;
	group->user_stack = group_by & BY_USER_STACK ? event->user_stack : 0;
	if (group_by & BY_COMM)
		__builtin_memcpy(group->comm, event->comm, sizeof(group->comm));
	else
		__builtin_memset(group->comm, 0, sizeof(group->comm));
}

static __always_inline struct tally *find_tally(const struct group *group)
{
	struct tally *tally = bpf_map_lookup_elem(&GROUPS, group);

	if (tally)
		return tally;
	bpf_map_update_elem(&GROUPS, group, &no_tally, BPF_NOEXIST);	/* or another CPU did */
	return bpf_map_lookup_elem(&GROUPS, group);
}

static __always_inline void add(__u64 *sum, __u64 number)
{
	if (preemptible)
		__sync_fetch_and_add(sum, number);
	else
		*sum += number;
}

static __always_inline __u32 log2_of(__u64 number)
{
	__u32 power = 0;

	for (__u32 bits = 32; bits; bits >>= 1) {
		if (number >> bits) {
			number >>= bits;
			power += bits;
		}
	}
	return power;
}

static __always_inline __u32 slot_of(__u64 duration_ns)
{
	__u64 slot;

	if (!linear_step)
		return log2_of(duration_ns);
	if (duration_ns < linear_min)
		return 0;
	slot = 1 + (duration_ns - linear_min) / linear_step;
	return slot < slots_used ? slot : slots_used - 1;
}

static __always_inline enum outcome count_return(struct scratch *scratch)
{
	__u64 duration_ns = scratch->event.duration_ns;
	struct tally *tally;

	find_group(scratch);
	tally = find_tally(&scratch->group);
	if (!tally)
		return NO_ROOM;
	add(&tally->count, 1);
	add(&tally->total_ns, duration_ns);
	if (duration_ns > tally->max_ns)
		tally->max_ns = duration_ns;
	add(&tally->slots[slot_of(duration_ns) & (TALLY_SLOTS - 1)], 1);
	return SENT;
}

static __noinline enum outcome count_call(void *ctx, struct scratch *scratch, enum place place,
					       const struct function *function)
{
	struct call_event *event = &scratch->event;
	struct group *group = &scratch->group;
	struct tally *tally;

	if (group_by & BY_VALUE) {
		event->unreadable = event->values[0] = 0;
		/* What is behind the text's end is part of the key, too. */
		__builtin_memset(event->texts[0], 0, sizeof(event->texts[0]));
		read_values(function, scratch, 0);
		if (event->unreadable)
			return UNREADABLE;
		__builtin_memcpy(group->text, event->texts[0], sizeof(group->text));
	}
	keep_stacks(ctx, scratch, place, function);
	find_group(scratch);
	tally = find_tally(group);
	if (!tally)
		return NO_ROOM;
	add(&tally->count, 1);
	return SENT;
}
