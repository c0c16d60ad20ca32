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

#ifdef NO_OUTPUT
/* The event is made nevertheless. */
static __always_inline long output(void *ctx, void *event)
{
	asm volatile("" : : "r"(ctx), "r"(event) : "memory");
	return 0;
}
#define bpf_perf_event_output(ctx, map, flags, event, size) output(ctx, event)
#endif

#define NO_KPROBE
#include "../../bpf/kprobe.bpf.c"

SEC("raw_tp/sys_enter")
int syscall_kprobe(struct bpf_raw_tracepoint_args *ctx)
{
#ifdef TARGET_PID
	if (bpf_get_current_pid_tgid() >> 32 != TARGET_PID)
		return 0;
#endif
#ifdef ONLY_SYSCALL
	if (ctx->args[1] != ONLY_SYSCALL)
		return 0;
#endif
	return send(ctx, &ctx->args[1]);
}
