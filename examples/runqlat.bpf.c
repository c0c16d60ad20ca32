// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* A histogram of how long tasks that could run waited for a CPU. */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "histogram.h"

/* Of the kernel's struct what is read here: found by name in the BTF of the running one. */
struct task_struct {
	int pid, tgid;
	unsigned int __state;	/* Linux 5.14 */
} __attribute__((preserve_access_index));

struct task_struct___before_5_14 {
	long state;
} __attribute__((preserve_access_index));

const volatile __u32 only_pid = 0;	/* 0: every process */

/* Since when tasks wait, by their ids. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u64);
} waiting SEC(".maps");

/* How many waited up to 2^N microseconds, by N. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} histogram SEC(".maps");

static __always_inline void queued(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, pid), process = BPF_CORE_READ(task, tgid);
	__u64 now = bpf_ktime_get_ns();

	if (pid && (!only_pid || process == only_pid))	/* 0: a CPU that has nothing to do */
		bpf_map_update_elem(&waiting, &pid, &now, BPF_ANY);
}

static __always_inline bool runnable(struct task_struct *task)
{
	struct task_struct___before_5_14 *old = (void *)task;

	if (bpf_core_field_exists(task->__state))
		return !BPF_CORE_READ(task, __state);
	return !BPF_CORE_READ(old, state);
}

SEC("raw_tp/sched_wakeup")
int on_wakeup(struct bpf_raw_tracepoint_args *ctx)
{
	queued((void *)ctx->args[0]);
	return 0;
}

SEC("raw_tp/sched_wakeup_new")
int on_wakeup_new(struct bpf_raw_tracepoint_args *ctx)
{
	queued((void *)ctx->args[0]);
	return 0;
}

SEC("raw_tp/sched_switch")
int on_switch(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *previous = (void *)ctx->args[1], *next = (void *)ctx->args[2];
	__u32 pid = BPF_CORE_READ(next, pid), slot;
	__u64 *since, *count;

	if (runnable(previous))	/* it had to make way, and waits again */
		queued(previous);
	since = bpf_map_lookup_elem(&waiting, &pid);
	if (!since)
		return 0;
	slot = slot_of(bpf_ktime_get_ns() - *since);
	bpf_map_delete_elem(&waiting, &pid);
	count = bpf_map_lookup_elem(&histogram, &slot);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
