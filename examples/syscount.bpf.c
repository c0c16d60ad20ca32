// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Counts the system calls of each process, by their numbers. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct call {
	__u32 pid;
	__u32 number;
};

const volatile __u32 only_pid = 0;	/* 0: every process */
const volatile __u32 own_pid = 0;	/* the tool's: left out */
__u64 lost = 0;				/* calls that found no room in COUNTS */

/* Their names, by their numbers, on the machine that this is built for. */
const char names[512][32] = {
#include "syscall_names.h"
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct call);
	__type(value, __u64);
} counts SEC(".maps");

struct process {
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct process);
} processes SEC(".maps");

SEC("raw_tp/sys_enter")
int on_call(struct bpf_raw_tracepoint_args *ctx)
{
	struct call call = {bpf_get_current_pid_tgid() >> 32, ctx->args[1]};
	struct process process;
	__u64 one = 1, *count;

	if (call.pid == own_pid || (only_pid && call.pid != only_pid))
		return 0;
	count = bpf_map_lookup_elem(&counts, &call);
	if (!count) {
		bpf_get_current_comm(process.comm, sizeof(process.comm));
		bpf_map_update_elem(&processes, &call.pid, &process, BPF_ANY);
		if (!bpf_map_update_elem(&counts, &call, &one, BPF_NOEXIST))
			return 0;
		count = bpf_map_lookup_elem(&counts, &call);	/* another thread was faster */
	}
	__sync_fetch_and_add(count ?: &lost, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
