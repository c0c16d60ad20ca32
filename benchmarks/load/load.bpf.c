// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The load of the benchmark: bpf/kprobe.bpf.c at a raw tracepoint, which any
 * kernel with BPF has and which costs next to nothing itself. The maps, the
 * variables, the event and the order of work are the same; what differs is where
 * syscall_nr comes from.
 *
 *   -DNO_COUNTERS      without COUNTERS, to measure what they cost
 *   -DNO_OUTPUT        nothing is sent: that varies by more than they cost
 *   -DONLY_SYSCALL=__NR_openat   only this system call, where a peer sees no other
 *   -DTARGET_PID=N     for peers that cannot set a variable
 */
#include <asm/unistd.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../../bpf/syscall_event.h"

#if defined(__TARGET_ARCH_x86)
#define MACHINE "x86_64"
#elif defined(__TARGET_ARCH_arm64)
#define MACHINE "aarch64"
#else
#error "no name for this target: add one beside the two above"
#endif

#ifndef TARGET_PID
#define TARGET_PID 0
#endif

/* Set by user space before the object is loaded. */
const volatile __u32 target_pid = TARGET_PID;	/* 0: every process */
const volatile __u32 tracer_pid = 0;	/* this process is left out; 0: none is */

const char machine[] = MACHINE;

/* Never read: keeps struct syscall_event in the object's BTF. */
const struct syscall_event *const syscall_event_layout = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} EVENTS SEC(".maps");

#ifdef NO_COUNTERS

#define COUNT(field) do { } while (0)

#else

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} COUNTERS SEC(".maps");

#define COUNT(field) __sync_fetch_and_add(&counters->field, 1)

#endif

#ifdef NO_OUTPUT
/* The event is made nevertheless. */
static __always_inline long output(void *ctx, struct syscall_event *event)
{
	asm volatile("" : : "r"(ctx), "r"(event) : "memory");
	return 0;
}
#else
static __always_inline long output(void *ctx, struct syscall_event *event)
{
	return bpf_perf_event_output(ctx, &EVENTS, BPF_F_CURRENT_CPU, event, sizeof(*event));
}
#endif

SEC("raw_tp/sys_enter")
int syscall_kprobe(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u32 pid = pid_tgid >> 32;
	struct syscall_event event;

#ifndef NO_COUNTERS
	struct counters *counters;
	__u32 zero = 0;

	counters = bpf_map_lookup_elem(&COUNTERS, &zero);
	if (!counters)
		return 0;
#endif
	COUNT(seen);

	if ((target_pid && pid != target_pid) || pid == tracer_pid) {
		COUNT(filtered);
		return 0;
	}
#ifdef ONLY_SYSCALL
	if (ctx->args[1] != ONLY_SYSCALL) {
		COUNT(filtered);
		return 0;
	}
#endif

	event.pid = pid;
	event.tid = pid_tgid;
	event.syscall_nr = ctx->args[1];
	event.timestamp_ns = bpf_ktime_get_ns();
	bpf_get_current_comm(event.comm, sizeof(event.comm));

	if (output(ctx, &event))
		COUNT(refused);
	else
		COUNT(sent);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
