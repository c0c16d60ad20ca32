// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Sends an event for each file that is opened: when open returns, its path has been read. */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct open_event {
	__u32 pid;
	__u32 uid;
	__s32 result;	/* a file descriptor, or minus an error number */
	char comm[16];
	char path[256];
};
const struct open_event *const open_event_layout = 0;	/* keeps it in the BTF */

const volatile __u32 only_pid = 0;	/* 0: every process */
const volatile __u32 own_pid = 0;	/* the tool's: left out */
const volatile bool only_failed = false;
__u64 lost = 0;

/* What a tracepoint hands over, see /sys/kernel/tracing/events/syscalls. */
struct enter {
	__u64 common;
	__u64 number;
	__u64 arguments[6];
};

struct leave {
	__u64 common;
	__u64 number;
	__s64 result;
};

/* The paths of the calls under way, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} paths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

static __always_inline int begin(__u64 path)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 pid = id >> 32, tid = id;

	if (pid != own_pid && (!only_pid || pid == only_pid))
		bpf_map_update_elem(&paths, &tid, &path, BPF_ANY);
	return 0;
}

static __always_inline int end(const struct leave *ctx)
{
	__u64 id = bpf_get_current_pid_tgid(), *path;
	__u32 tid = id;
	struct open_event *event;

	path = bpf_map_lookup_elem(&paths, &tid);
	if (!path)
		return 0;
	if (only_failed && ctx->result >= 0)
		goto out;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&lost, 1);
		goto out;
	}
	event->pid = id >> 32;
	event->uid = bpf_get_current_uid_gid();
	event->result = ctx->result;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (bpf_probe_read_user_str(event->path, sizeof(event->path), (void *)*path) < 0)
		event->path[0] = 0;
	bpf_ringbuf_submit(event, 0);
out:
	bpf_map_delete_elem(&paths, &tid);
	return 0;
}

SEC("tp/syscalls/sys_enter_openat")
int enter_openat(const struct enter *ctx)
{
	return begin(ctx->arguments[1]);
}

SEC("tp/syscalls/sys_exit_openat")
int exit_openat(const struct leave *ctx)
{
	return end(ctx);
}

SEC("tp/syscalls/sys_enter_openat2")
int enter_openat2(const struct enter *ctx)
{
	return begin(ctx->arguments[1]);
}

SEC("tp/syscalls/sys_exit_openat2")
int exit_openat2(const struct leave *ctx)
{
	return end(ctx);
}

#ifdef __TARGET_ARCH_x86	/* the older call, which musl makes; newer machines do not have it */
SEC("tp/syscalls/sys_enter_open")
int enter_open(const struct enter *ctx)
{
	return begin(ctx->arguments[0]);
}

SEC("tp/syscalls/sys_exit_open")
int exit_open(const struct leave *ctx)
{
	return end(ctx);
}
#endif

char LICENSE[] SEC("license") = "GPL";
