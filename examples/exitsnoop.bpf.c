// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Sends an event for each process that ends: how, and after how long. */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct exit_event {
	__u64 duration_ns;
	__u32 pid;
	__u32 parent;
	__u32 code;	/* as wait(2) gives it */
	char comm[16];
};
const struct exit_event *const exit_event_layout = 0;	/* keeps it in the BTF */

/* Of the kernel's struct what is read here: found by name in the BTF of the running one. */
struct task_struct {
	int pid, tgid, exit_code;
	__u64 start_time;
	struct task_struct *real_parent;
} __attribute__((preserve_access_index));

const volatile bool only_failed = false;
__u64 lost = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} events SEC(".maps");

SEC("raw_tp/sched_process_exit")
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	__u32 pid = BPF_CORE_READ(task, tgid), code = BPF_CORE_READ(task, exit_code);
	struct exit_event *event;

	if (pid != (__u32)BPF_CORE_READ(task, pid))	/* one of its threads */
		return 0;
	if (only_failed && !code)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	event->duration_ns = bpf_ktime_get_ns() - BPF_CORE_READ(task, start_time);
	event->pid = pid;
	event->parent = BPF_CORE_READ(task, real_parent, tgid);
	event->code = code;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
