/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The rich programs: struct call_event for each call that the filters let through. What to
 * read, and where the kernel's structs keep it, user space says: no CO-RE relocation here
 * either. They need Linux 5.5 (bpf_probe_read_user), many functions 5.15 (cookies): they
 * are loaded when user space says so.
 */

#if defined(__TARGET_ARCH_x86)
#define ARGUMENTS 6
static const __u16 argument_offsets[] = { 112, 104, 96, 88, 72, 64 };
static const __u16 syscall_offsets[] = { 112, 104, 96, 56, 72, 64 };	/* r10 for rcx */
#define STACK_OFFSET 152
#define RETURN_OFFSET 80
#define KERNEL_BIT 63
#else
#define ARGUMENTS 8
static const __u16 argument_offsets[] = { 0, 8, 16, 24, 32, 40, 48, 56 };
static const __u16 syscall_offsets[] = { 0, 8, 16, 24, 32, 40 };
#define STACK_OFFSET 248
#define LINK_OFFSET 240		/* x30: where a function returns to */
#define RETURN_OFFSET 0
#define KERNEL_BIT 55	/* the byte above may be a tag */
#endif
#define SYSCALL_ARGUMENTS 6

/* Set by user space before the object is loaded. */
const volatile __u32 chosen = 0;	/* of enum chosen: what the CHOSEN map is asked for */
const volatile __u32 sample = 0;	/* one of so many calls */
const volatile __u32 group_by = ~0U;	/* of enum by; events tell all */
const volatile __u32 event_size = sizeof(struct call_event);
const volatile __u32 kept_size = sizeof(struct call_event);	/* until it returns, of SPANS */
const volatile __u32 values_used = CALL_VALUES;
const volatile __u32 comparisons_used = FILTER_COMPARISONS;
const volatile bool cookies = false;	/* more than one function */
const volatile bool comm_chosen = false;
const volatile bool cgroup_chosen = false;
const volatile bool own_ids = false;	/* ns_pid and ns_tid are wanted */
const volatile bool kernel_stacks = false;
const volatile bool user_stacks = false;
const volatile __u32 pid_namespace = 0;	/* the tracer's, its inode number; 0: the initial one */

/* Offsets in the kernel's structs, for own_ids and pid_namespace. */
const volatile __u32 task_group_leader = 0;
const volatile __u32 task_thread_pid = 0;
const volatile __u32 pid_level = 0;
const volatile __u32 pid_numbers = 0;
const volatile __u32 upid_size = 0;
const volatile __u32 upid_ns = 0;
const volatile __u32 upid_nr = 0;
const volatile __u32 namespace_inum = 0;

/* The same, for user_stacks; 0: without BTF. */
const volatile __u32 task_mm = 0;
const volatile __u32 mm_start_stack = 0;

/* Pid namespaces are nested 32 deep at most; their numbers are looked at up to here. */
#define LEVELS 9

/* Never read: keeps struct call_event in the object's BTF. */
const struct call_event *const call_event_layout = 0;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);		/* user space: the number of functions */
	__type(key, __u32);
	__type(value, struct function);
} FUNCTIONS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PATTERNS_MAX);
	__type(key, __u32);
	__type(value, struct pattern);
} PATTERNS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);		/* user space: the number of choices */
	__type(key, struct choice);
	__type(value, __u8);
} CHOSEN SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} CGROUPS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);		/* user space: the number of stacks that are kept */
	__type(key, __u64);
	__type(value, struct stack);
} STACKS SEC(".maps");

struct scratch {
	struct call_event event;
	struct stack stack;
	struct group group;
	__u64 sources[SOURCES];
	char text[CALL_TEXT_LEN];	/* of a comparison */
	/* Bit i: of comparison i. Here, and not in registers, so that the verifier does not follow
	 * each combination of them. */
	__u32 results;
	__u32 unknown;
	__u64 users;
};

/* So many tasks that preempt each other on a CPU may run the program at a time. */
#define SCRATCHES 4

/* Too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, __u32);
	__type(value, struct scratch);
} SCRATCH SEC(".maps");

/*
 * A scratch that nobody else uses, or NULL. Of tasks that preempt each other in between at
 * most one sees itself as the only user; none of them is no harm.
 */
static __always_inline struct scratch *take_scratch(void)
{
	for (__u32 i = 0; i < SCRATCHES; i++) {
		__u32 key = i;
		struct scratch *scratch = bpf_map_lookup_elem(&SCRATCH, &key);

		if (!scratch || !preemptible)
			return scratch;
		__sync_fetch_and_add(&scratch->users, 1);
		if (*(volatile __u64 *)&scratch->users == 1)
			return scratch;
		__sync_fetch_and_add(&scratch->users, -1);
	}
	return 0;
}

static __always_inline void give_back(struct scratch *scratch)
{
	if (preemptible)
		__sync_fetch_and_add(&scratch->users, -1);
}

static __always_inline bool is_chosen(enum chosen what, __u32 number)
{
	struct choice choice = { .what = what, .number = number };

	return !(chosen & what) || bpf_map_lookup_elem(&CHOSEN, &choice);
}

static __always_inline bool in_kernel(__u64 address)
{
	return address >> KERNEL_BIT & 1;
}

static __always_inline long read(void *to, __u32 size, __u64 address)
{
	if (in_kernel(address))
		return bpf_probe_read_kernel(to, size, (void *)address);
	return bpf_probe_read_user(to, size, (void *)address);
}

static __always_inline long read_text(char *to, __u64 address)
{
	long length;

	if (in_kernel(address))
		return bpf_probe_read_kernel_str(to, CALL_TEXT_LEN, (void *)address);
	length = bpf_probe_read_user_str(to, CALL_TEXT_LEN, (void *)address);
	if (!length) {	/* of an empty string kernels do not count the NUL */
		to[0] = '\0';
		length = 1;
	}
	return length;
}

static __always_inline __u64 kernel_word(__u64 address)
{
	__u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

static __always_inline __u32 kernel_number(__u64 address)
{
	__u32 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), (void *)address);
	return number;
}

/* A task's number in its own pid namespace, and in the tracer's: 0 where it is not in that. */
static __always_inline void look_up_ids(__u64 task, __u32 *own, __u32 *tracers)
{
	__u64 pid = kernel_word(task + task_thread_pid);
	__u32 level = kernel_number(pid + pid_level);
	__u64 numbers = pid + pid_numbers;

	*own = kernel_number(numbers + level * upid_size + upid_nr);
	if (!pid_namespace)
		return;
	*tracers = 0;
	for (__u32 i = 1; i < LEVELS; i++) {
		__u64 upid = numbers + i * upid_size;

		if (i > level)
			break;
		if (kernel_number(kernel_word(upid + upid_ns) + namespace_inum) == pid_namespace) {
			*tracers = kernel_number(upid + upid_nr);
			break;
		}
	}
}

static __always_inline void look_up_process(struct call_event *event)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u64 task;

	event->pid = event->host_pid = pid_tgid >> 32;
	event->tid = event->host_tid = pid_tgid;
	event->ns_pid = event->ns_tid = 0;
	if (!own_ids)
		return;
	task = bpf_get_current_task();
	look_up_ids(task, &event->ns_tid, &event->tid);
	look_up_ids(kernel_word(task + task_group_leader), &event->ns_pid, &event->pid);
}

/* Where all fetches begin. */
static __always_inline void read_sources(void *ctx, const struct function *function, __u64 *sources)
{
	for (int i = 0; i < ARGUMENTS; i++)
		sources[i] = *(__u64 *)(ctx + argument_offsets[i]);
	sources[SOURCE_STACK] = *(__u64 *)(ctx + STACK_OFFSET);
	sources[SOURCE_TASK] = bpf_get_current_task();
	if (function->flags & FUNCTION_UNWRAP) {
		__u64 regs = sources[0];

		for (int i = 0; i < SYSCALL_ARGUMENTS; i++)
			sources[i] = kernel_word(regs + syscall_offsets[i]);
	}
}

static __always_inline void read_record(void *ctx, __u64 *sources)
{
	sources[SOURCE_RECORD] = (__u64)ctx;
	sources[SOURCE_TASK] = bpf_get_current_task();
}

/* The value of a fetch, or the address of its text; whether it could be read. */
static __noinline bool get(const struct fetch *fetch, const __u64 *sources, __u64 *result)
{
	__u64 value = sources[fetch->source & (SOURCES - 1)];
	__u32 steps = fetch->steps;

	for (__u32 i = 0; i <= FETCH_READS; i++) {
		__u64 address = value + fetch->offsets[i];
		__u32 size = sizeof(value);

		if (i >= steps) {
			if (fetch->flags & FETCH_IN_RECORD)
				value = sources[SOURCE_RECORD] + (value & 0xffff) + fetch->offsets[i];
			else if (fetch->text && value)	/* NULL is NULL, not its member's address */
				value = address;
			break;
		}
		if (i + 1 == steps && (!fetch->text || fetch->flags & FETCH_IN_RECORD))
			size = fetch->size;
		value = 0;
		if (size > sizeof(value) || read(&value, size, address))
			return false;
	}
	if (fetch->text)
		*result = value;
	else if (fetch->is_signed)
		*result = (__s64)(value << (fetch->left & 63)) >> (fetch->right & 63);
	else
		*result = value << (fetch->left & 63) >> (fetch->right & 63);
	return true;
}

static __noinline bool matches(const char *text, __u32 length, __u32 which)
{
	const struct pattern *pattern = bpf_map_lookup_elem(&PATTERNS, &which);
	__u64 states;

	if (!pattern)
		return false;
	states = pattern->start;
	for (__u32 i = 0; i < CALL_TEXT_LEN; i++) {
		__u8 byte;

		if (i >= length)
			break;
		byte = text[i];
		if (!byte)
			break;
		states = (states & pattern->table[byte]) << 1 | (states & pattern->loops);
	}
	return states & pattern->accept;
}

static __always_inline bool compare(__u64 value, const struct comparison *comparison)
{
	__u64 constant = comparison->value;

	value &= comparison->mask;
	switch (comparison->operator) {
	case EQUAL:
		return value == constant;
	case NOT_EQUAL:
		return value != constant;
	case LESS:
		return value < constant;
	case LESS_EQUAL:
		return value <= constant;
	case GREATER:
		return value > constant;
	case GREATER_EQUAL:
		return value >= constant;
	case SIGNED + LESS:
		return (__s64)value < (__s64)constant;
	case SIGNED + LESS_EQUAL:
		return (__s64)value <= (__s64)constant;
	case SIGNED + GREATER:
		return (__s64)value > (__s64)constant;
	case SIGNED + GREATER_EQUAL:
		return (__s64)value >= (__s64)constant;
	}
	return false;
}

/* Whether a comparison could be made: *holds is its result. */
static __noinline bool evaluate(const struct comparison *comparison, struct scratch *scratch,
				bool *holds)
{
	__u64 value = 0;

	if (!get(&comparison->fetch, scratch->sources, &value))
		return false;
	if (comparison->operator != MATCHES) {
		*holds = compare(value, comparison);
		return true;
	}
	*holds = false;
	if (!value)	/* NULL is like no text */
		return true;
	if (read_text(scratch->text, value) < 0)
		return false;
	*holds = matches(scratch->text, CALL_TEXT_LEN, comparison->pattern);
	return true;
}

/* SENT: the filter lets the call through. UNREADABLE: what it asks for could not be read. */
static __noinline enum outcome filter(const struct function *function, struct scratch *scratch)
{
	__u32 truth = function->truth, results, unknown;
	bool may_hold = false, may_fail = false;

	scratch->results = scratch->unknown = 0;
	for (__u32 i = 0; i < FILTER_COMPARISONS; i++) {
		bool holds = false;

		if (i >= comparisons_used || !function->comparisons[i].operator)
			break;
		if (!evaluate(&function->comparisons[i], scratch, &holds))
			scratch->unknown |= 1U << i;
		else if (holds)
			scratch->results |= 1U << i;
	}
	results = scratch->results;
	unknown = scratch->unknown;
	if (!unknown)
		return truth >> (results & 15) & 1 ? SENT : FILTERED;
	/* It may be decided by what could be read. */
	for (__u32 i = 0; i < 1U << FILTER_COMPARISONS; i++) {
		if ((i & ~unknown) != results)
			continue;
		if (truth >> i & 1)
			may_hold = true;
		else
			may_fail = true;
	}
	if (may_hold && may_fail)
		return UNREADABLE;
	return may_hold ? SENT : FILTERED;
}

/* Reads what is to be read at the call's beginning, or (at_return) at its return. */
static __noinline void read_values(const struct function *function, struct scratch *scratch,
				   __u32 at_return)
{
	struct call_event *event = &scratch->event;

	for (__u32 i = 0; i < CALL_VALUES; i++) {
		const struct fetch *fetch = &function->fetches[i];
		__u32 text = fetch->text;
		__u64 value = 0;
		long length;
		char *to;

		if (i >= values_used || !(fetch->flags & FETCH_USED) ||
		    (fetch->flags & FETCH_AT_RETURN) != at_return)
			continue;
		if (!get(fetch, scratch->sources, &value)) {
			event->unreadable |= 1ULL << i;
			continue;
		}
		if (!text) {
			event->values[i] = value;
			continue;
		}
		to = event->texts[(text - 1) & (CALL_TEXTS - 1)];	/* for the verifier */
		to[0] = '\0';	/* not the last call's */
		if (!value)
			continue;
		length = read_text(to, value);
		if (length < 0)
			event->unreadable |= 1ULL << i;
		else
			event->values[i] = length;
	}
}

/* Where a program's function returns to, at its first instruction; 0: it cannot be read. */
static __always_inline __u64 return_address(void *ctx)
{
#ifdef LINK_OFFSET
	return *(__u64 *)(ctx + LINK_OFFSET);
#else
	__u64 address = 0;

	bpf_probe_read_user(&address, sizeof(address), *(void **)(ctx + STACK_OFFSET));
	return address;
#endif
}

/*
 * At a function's first instruction the frame pointer is still its caller's: that is left out
 * of the chain. Newer kernels find some of them. Of recursion the next frame looks like the one
 * that is left out: hidden says that the kernel did not find it.
 */
static __always_inline long add_caller(void *ctx, struct stack *stack, long size, __u64 caller,
				       bool hidden)
{
	if (stack->frames[1] == caller && !hidden)
		return size;
	stack->frames[1] = caller;
	size = bpf_get_stack(ctx, &stack->frames[2], sizeof(stack->frames) - 2 * sizeof(caller),
			     BPF_F_USER_STACK | 1);
	return (size > 0 ? size : 0) + 2 * sizeof(caller);
}

/* Keeps the stack where it is not yet kept; its key, or 0. caller: see add_caller(), or 0. */
static __noinline __u64 keep_stack(void *ctx, struct scratch *scratch, __u64 flags, __u64 caller,
				   bool hidden)
{
	struct stack *stack = &scratch->stack;
	__u64 key = 0xcbf29ce484222325;		/* FNV-1a, by words */
	long size;

	stack->frames[1] = 0;
	size = bpf_get_stack(ctx, stack->frames, sizeof(stack->frames), flags);
	if (size <= 0)	/* a kernel thread has no user stack */
		return 0;
	if (caller)
		size = add_caller(ctx, stack, size, caller, hidden);
	stack->count = size / sizeof(stack->frames[0]);
	stack->program = 0;
	if (flags & BPF_F_USER_STACK && mm_start_stack)
		stack->program = kernel_word(kernel_word(bpf_get_current_task() + task_mm) +
					     mm_start_stack);
	key ^= stack->program;
	for (__u32 i = 0; i < STACK_FRAMES; i++) {
		if (i >= stack->count)
			break;
		key = (key ^ stack->frames[i]) * 0x100000001b3;
		key ^= key >> 32;
	}
	if (!bpf_map_lookup_elem(&STACKS, &key) &&
	    bpf_map_update_elem(&STACKS, &key, stack, BPF_ANY)) {
		count(NO_STACK);
		return 0;
	}
	return key;
}

/* What the probe is at. */
enum place { FUNCTION, TRACEPOINT };

/*
 * SENT: it is chosen, and all that the filters look at is in the scratch. reads: the sources
 * are wanted even if they do not.
 */
static __noinline enum outcome choose(void *ctx, struct scratch *scratch, enum place place,
					   bool reads, struct function **function)
{
	struct call_event *event = &scratch->event;
	enum outcome outcome;
	__u32 key;

	look_up_process(event);
	if (group_by & BY_CPU || chosen & CHOSEN_CPU)
		event->cpu = bpf_get_smp_processor_id();
	if (group_by & BY_UID || chosen & CHOSEN_UID)
		event->uid = bpf_get_current_uid_gid();
	if ((tracer_pid && event->pid == tracer_pid) ||
	    (target_pid && event->pid != target_pid) || !is_chosen(CHOSEN_PID, event->pid) ||
	    !is_chosen(CHOSEN_TID, event->tid) || !is_chosen(CHOSEN_UID, event->uid))
		return FILTERED;
	if (cgroup_chosen && bpf_current_task_under_cgroup(&CGROUPS, 0) != 1)
		return FILTERED;
	if (group_by & BY_COMM || comm_chosen)
		bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (comm_chosen && !matches(event->comm, sizeof(event->comm), COMM_PATTERN))
		return FILTERED;
	event->function = key = cookies ? bpf_get_attach_cookie(ctx) : 0;
	*function = bpf_map_lookup_elem(&FUNCTIONS, &key);
	if (!*function || !is_chosen(CHOSEN_CPU, event->cpu))
		return FILTERED;
	if (reads || comparisons_used) {
		if (place == TRACEPOINT)
			read_record(ctx, scratch->sources);
		else
			read_sources(ctx, *function, scratch->sources);
	}
	if (comparisons_used) {
		outcome = filter(*function, scratch);
		if (outcome != SENT)
			return outcome;
	}
	return sample > 1 && bpf_get_prandom_u32() % sample ? FILTERED : SENT;
}

static __always_inline void keep_stacks(void *ctx, struct scratch *scratch, enum place place,
					const struct function *function)
{
	struct call_event *event = &scratch->event;
	__u64 caller = 0;

	event->kernel_stack = kernel_stacks ? keep_stack(ctx, scratch, 0, 0, false) : 0;
	event->user_stack = 0;
	if (!user_stacks)
		return;
	if (place == FUNCTION && function->flags & FUNCTION_FIRST)
		caller = return_address(ctx);
	event->user_stack = keep_stack(ctx, scratch, BPF_F_USER_STACK, caller,
				       function->flags & FUNCTION_HIDES);
}

/* Fills the rest of the event. */
static __noinline void describe(void *ctx, struct scratch *scratch, enum place place,
				     const struct function *function, __u64 timestamp_ns)
{
	struct call_event *event = &scratch->event;

	event->timestamp_ns = timestamp_ns;
	if (kept_size <= TIMED_SIZE)
		return;
	event->syscall_nr = place == TRACEPOINT ? 0 : scratch->sources[0];
	event->gid = bpf_get_current_uid_gid() >> 32;
	event->cgroup = bpf_get_current_cgroup_id();
	event->duration_ns = 0;
	event->unreadable = 0;
	for (__u32 i = 0; i < CALL_VALUES; i++)
		event->values[i] = 0;
	read_values(function, scratch, 0);
	keep_stacks(ctx, scratch, place, function);
}

static __always_inline enum outcome send_event(void *ctx, struct call_event *event)
{
	if (bpf_perf_event_output(ctx, &EVENTS, BPF_F_CURRENT_CPU, event, event_size))
		return REFUSED;
	return SENT;
}
