// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Counts the packets that an interface receives, by protocol; lets all of them pass. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct traffic {
	__u64 packets;
	__u64 bytes;
};

/* By IP's protocol number; those that are not of IP are counted as OTHER. */
#define OTHER 256
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OTHER + 1);
	__type(key, __u32);
	__type(value, struct traffic);
} protocols SEC(".maps");

static __always_inline __u32 protocol_of(void *data, void *end)
{
	struct ethhdr *ethernet = data;

	if ((void *)(ethernet + 1) > end)
		return OTHER;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(ethernet + 1);

		return (void *)(ip + 1) > end ? OTHER : ip->protocol;
	}
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(ethernet + 1);

		return (void *)(ip + 1) > end ? OTHER : ip->nexthdr;
	}
	return OTHER;
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 protocol = protocol_of(data, end);
	struct traffic *traffic = bpf_map_lookup_elem(&protocols, &protocol);

	if (traffic) {
		traffic->packets++;
		traffic->bytes += end - data;
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
