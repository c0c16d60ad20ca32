// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Sends an event for each TCP connection that a process begins. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define AF_INET 2
#define AF_INET6 10
#define TCP_SYN_SENT 2

struct connect_event {
	__u32 pid;
	__u16 family;
	__u16 port;
	char comm[16];
	__u8 address[16];	/* IPv4: the first four */
};
const struct connect_event *const connect_event_layout = 0;	/* keeps it in the BTF */

/* Of the kernel's structs what is read here: found by name in the BTF of the running one. */
struct in6_addr___kernel {
	__u8 bytes[16];
};

struct sock_common {
	__be16 skc_dport;
	unsigned short skc_family;
	__be32 skc_daddr;
	struct in6_addr___kernel skc_v6_daddr;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

const volatile __u32 only_pid = 0;	/* 0: every process */
const volatile __u16 only_port = 0;	/* 0: any */
__u64 lost = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

/* TCP sockets enter SYN_SENT within connect(2), in the process that calls it. */
SEC("raw_tp/inet_sock_set_state")
int on_state(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sock = (void *)ctx->args[0];
	struct connect_event event = {};

	if ((int)ctx->args[2] != TCP_SYN_SENT)
		return 0;
	event.pid = bpf_get_current_pid_tgid() >> 32;
	event.family = BPF_CORE_READ(sock, __sk_common.skc_family);
	event.port = bpf_ntohs(BPF_CORE_READ(sock, __sk_common.skc_dport));
	if ((only_pid && event.pid != only_pid) || (only_port && event.port != only_port))
		return 0;
	if (event.family == AF_INET)
		bpf_core_read(event.address, 4, &sock->__sk_common.skc_daddr);
	else if (event.family == AF_INET6)
		bpf_core_read(event.address, 16, &sock->__sk_common.skc_v6_daddr);
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	if (bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event)))
		__sync_fetch_and_add(&lost, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
