// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Sends an event for each program that a process begins to run, with its arguments. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define ARGUMENTS 1024

struct exec_event {
	__u32 pid;
	__u32 parent;
	__u32 uid;
	__u32 size;	/* of all arguments, which may be more than are here */
	char comm[16];
	__u8 arguments[ARGUMENTS];	/* each ends with a NUL */
};
const struct exec_event *const exec_event_layout = 0;	/* keeps it in the BTF */

/* Of the kernel's structs what is read here: found by name in the BTF of the running one. */
struct mm_struct {
	unsigned long arg_start, arg_end;
} __attribute__((preserve_access_index));

struct task_struct {
	int tgid;
	struct task_struct *real_parent;
	struct mm_struct *mm;
} __attribute__((preserve_access_index));

const volatile __u32 only_uid = -1;	/* -1: everybody */
__u64 lost = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

SEC("raw_tp/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	__u32 uid = bpf_get_current_uid_gid();
	unsigned long start, size;
	struct exec_event *event;

	if (only_uid != (__u32)-1 && uid != only_uid)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	start = BPF_CORE_READ(task, mm, arg_start);
	size = BPF_CORE_READ(task, mm, arg_end) - start;
	event->pid = BPF_CORE_READ(task, tgid);
	event->parent = BPF_CORE_READ(task, real_parent, tgid);
	event->uid = uid;
	event->size = size;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (size > ARGUMENTS)
		size = ARGUMENTS;
	if (bpf_probe_read_user(event->arguments, size, (void *)start))
		event->size = 0;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
