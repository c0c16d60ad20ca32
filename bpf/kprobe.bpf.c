// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * syscall_kprobe sends one struct syscall_event for each call of the function that user
 * space attaches it to; the programs of call.bpf.h send struct call_event for calls of many
 * functions, with filters, those of return.bpf.h for their returns, and those of tally.bpf.h
 * count. No CO-RE relocation: it loads on kernels without BTF.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "call_event.h"

/* Where struct pt_regs keeps the register of a function's first argument. */
#if defined(__TARGET_ARCH_x86)
#define MACHINE "x86_64"
#define FIRST_ARGUMENT_OFFSET 112	/* di */
#elif defined(__TARGET_ARCH_arm64)
#define MACHINE "aarch64"
#define FIRST_ARGUMENT_OFFSET 0		/* regs[0] */
#else
#error "no register layout for this target: add one beside the two above"
#endif

/* Set by user space before the object is loaded. */
const volatile __u32 target_pid = 0;	/* 0: every process */
const volatile __u32 tracer_pid = 0;	/* this process is left out; 0: none is */

/*
 * The end of the trace, of bpf_ktime_get_ns(): set when the program is attached, and kept
 * here because user space cannot be relied on to detach it in time.
 */
volatile __u64 until_ns = ~0ULL;

/* Lets user space refuse an object that reads another machine's registers. */
const char machine[] = MACHINE;

/* Never read: keeps struct syscall_event in the object's BTF. */
const struct syscall_event *const syscall_event_layout = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} EVENTS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} COUNTERS SEC(".maps");

/*
 * The kernel runs one kprobe program at a time on a CPU, and does not preempt it:
 * a plain addition is exact, and cheaper than an atomic one. Attached by uprobe the
 * program can be preempted, and another task may run it on the same CPU.
 */
const volatile bool preemptible = false;

/* What became of a call: its place in struct counters. */
enum outcome { FILTERED, SENT, REFUSED, UNREADABLE, BEGUN, ENDED, NO_ROOM, UNMATCHED, NO_STACK };

static __always_inline void count(enum outcome outcome)
{
#ifndef NO_COUNTERS
	__u32 zero = 0;
	__u64 *counters = bpf_map_lookup_elem(&COUNTERS, &zero);

	if (!counters)
		return;
	if (preemptible)
		__sync_fetch_and_add(&counters[outcome], 1);
	else
		counters[outcome]++;
#endif
}

static __always_inline int send(void *ctx, const __u64 *first_argument)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	enum outcome outcome = FILTERED;
	struct syscall_event event;
	__u32 pid = pid_tgid >> 32;

	if ((target_pid && pid != target_pid) || pid == tracer_pid)
		goto out;

	event.timestamp_ns = bpf_ktime_get_ns();
	if (event.timestamp_ns > until_ns)
		return 0;

	event.pid = pid;
	event.tid = pid_tgid;
	event.syscall_nr = *first_argument;
	bpf_get_current_comm(event.comm, sizeof(event.comm));

	outcome = SENT;
	if (bpf_perf_event_output(ctx, &EVENTS, BPF_F_CURRENT_CPU, &event, sizeof(event)))
		outcome = REFUSED;
out:
	count(outcome);
	return 0;
}

#ifndef NO_KPROBE
SEC("kprobe")
int syscall_kprobe(void *ctx)
{
	return send(ctx, ctx + FIRST_ARGUMENT_OFFSET);
}
#include "call.bpf.h"
#include "return.bpf.h"
#include "tally.bpf.h"
#include "programs.bpf.h"
#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";
