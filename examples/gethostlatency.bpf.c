// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Sends an event for each host name that a process looks up by the C library. */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct lookup_event {
	__u64 duration_ns;
	__u32 pid;
	__s32 result;	/* of getaddrinfo(3): 0, or one of EAI_* */
	char comm[16];
	char host[256];
};
const struct lookup_event *const lookup_event_layout = 0;	/* keeps it in the BTF */

struct start {
	__u64 time_ns;
	__u64 host;	/* where its name is, in the process */
};

__u64 lost = 0;

/* The calls under way, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct start);
} starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} events SEC(".maps");

SEC("uprobe")
int begin(struct pt_regs *ctx)
{
	struct start start = {bpf_ktime_get_ns(), PT_REGS_PARM1(ctx)};
	__u32 tid = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&starts, &tid, &start, BPF_ANY);
	return 0;
}

SEC("uretprobe")
int end(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 tid = id;
	struct start *start = bpf_map_lookup_elem(&starts, &tid);
	struct lookup_event *event;

	if (!start)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		goto out;
	}
	event->duration_ns = bpf_ktime_get_ns() - start->time_ns;
	event->pid = id >> 32;
	event->result = PT_REGS_RC(ctx);
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (bpf_probe_read_user_str(event->host, sizeof(event->host), (void *)start->host) < 0)
		event->host[0] = 0;	/* it asked for a service alone */
	bpf_ringbuf_submit(event, 0);
out:
	bpf_map_delete_elem(&starts, &tid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
