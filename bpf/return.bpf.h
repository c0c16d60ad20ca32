/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Returns: one program keeps a call when it begins, another meets it again when it returns.
 * A call is known by its thread, its function and its place on the stack: so recursion and
 * calls whose return is missed do no harm.
 */

/* Set by user space before the object is loaded. */
const volatile __u64 slower_ns = 0;	/* quicker returns are left out */
const volatile bool failed_only = false;
/*
 * x86_64, from Linux 6.14 on: a kprobe.multi program may see at the return, in some releases,
 * the stack pointer below the frame that return_to_handler() makes, a struct pt_regs.
 */
const volatile __u64 handler_frame = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);		/* user space: calls that are kept at a time */
	__uint(key_size, sizeof(struct span));
	__uint(value_size, sizeof(struct call_event));	/* user space: as much as is needed */
} SPANS SEC(".maps");

#if defined(__TARGET_ARCH_x86)
/* The return popped its address from the stack. */
#define POPPED 8
#else
#define POPPED 0
#endif

static __always_inline struct span span_of(void *ctx, const struct call_event *event)
{
	struct span span = {
		.tid = event->host_tid,
		.function = event->function,
		.stack_pointer = *(__u64 *)(ctx + STACK_OFFSET),
	};

	return span;
}

/* Keeps the call, as it is described in the scratch's event, until it returns. */
static __always_inline enum outcome keep_call(void *ctx, const struct call_event *event)
{
	struct span span = span_of(ctx, event);

	return bpf_map_update_elem(&SPANS, &span, event, BPF_ANY) ? NO_ROOM : BEGUN;
}

/* A call that is left out is not to be met as one before it in its place that never returned. */
static __always_inline void forget_before(void *ctx, const struct call_event *event)
{
	struct span span = span_of(ctx, event);

	bpf_map_delete_elem(&SPANS, &span);
}

/*
 * The call that returns, in the scratch's event, with its duration; whether it was kept.
 * frame: what may lie between its place on the stack and the one that the return sees.
 */
static __noinline bool leave(void *ctx, struct scratch *scratch, __u64 now, __u64 frame)
{
	struct call_event *event = &scratch->event, *kept;
	struct span span = {
		.tid = bpf_get_current_pid_tgid(),
		.function = cookies ? bpf_get_attach_cookie(ctx) : 0,
		.stack_pointer = *(__u64 *)(ctx + STACK_OFFSET) - POPPED,
	};

	kept = bpf_map_lookup_elem(&SPANS, &span);
	if (!kept && frame) {
		span.stack_pointer += frame;
		kept = bpf_map_lookup_elem(&SPANS, &span);
	}
	if (!kept)
		return false;
	bpf_probe_read_kernel(event, kept_size, kept);
	bpf_map_delete_elem(&SPANS, &span);
	event->duration_ns = now - event->timestamp_ns;
	event->timestamp_ns = now;
	event->function = span.function;
	event->cpu = bpf_get_smp_processor_id();
	return true;
}

static __noinline bool has_failed(const struct function *function, __u64 value)
{
	switch (function->failed) {
	case FAILED_NEGATIVE:
		return (__s64)(value << (function->failed_shift & 63)) < 0;
	case FAILED_POINTER:
		return !value || value >= -4095ULL;
	case FAILED_ERRNO:
		return value >= -4095ULL;
	case FAILED_MINUS_ONE:
		return (__s32)value == -1;
	}
	return true;
}

static __always_inline enum outcome send_return(void *ctx, struct scratch *scratch)
{
	struct call_event *event = &scratch->event;
	__u32 key = event->function;
	struct function *function;
	__u64 value = *(__u64 *)(ctx + RETURN_OFFSET);

	function = bpf_map_lookup_elem(&FUNCTIONS, &key);
	if (!function || event->duration_ns < slower_ns)
		return FILTERED;
	if (failed_only && !has_failed(function, value))
		return FILTERED;
	scratch->sources[SOURCE_RETURN] = value;
	scratch->sources[SOURCE_TASK] = bpf_get_current_task();
	read_values(function, scratch, FETCH_AT_RETURN);
	return send_event(ctx, event);
}
