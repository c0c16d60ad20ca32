// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Histograms of how long block devices take for their requests. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "histogram.h"

/* What the tracepoints hand over, see /sys/kernel/tracing/events/block: their common beginning. */
struct request {
	__u64 common;
	__u32 device;
	__u64 sector;
};

/* A request is known by its place. */
struct place {
	__u32 device;
	__u32 unused;
	__u64 sector;
};

struct bucket {
	__u32 device;	/* its number: major << 20 | minor */
	__u32 slot;	/* N: up to 2^N microseconds */
};

const volatile __u32 only_device = 0;	/* 0: all */

/* The requests under way, and when they were given to the device. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct place);
	__type(value, __u64);
} requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64 * SLOTS);
	__type(key, struct bucket);
	__type(value, __u64);
} histograms SEC(".maps");

SEC("tp/block/block_rq_issue")
int on_issue(const struct request *ctx)
{
	struct place place = {ctx->device, 0, ctx->sector};
	__u64 now = bpf_ktime_get_ns();

	if (!only_device || place.device == only_device)
		bpf_map_update_elem(&requests, &place, &now, BPF_ANY);
	return 0;
}

SEC("tp/block/block_rq_complete")
int on_complete(const struct request *ctx)
{
	struct place place = {ctx->device, 0, ctx->sector};
	struct bucket bucket = {ctx->device, 0};
	__u64 *issued = bpf_map_lookup_elem(&requests, &place), zero = 0, *count;

	if (!issued)
		return 0;
	bucket.slot = slot_of(bpf_ktime_get_ns() - *issued);
	bpf_map_delete_elem(&requests, &place);
	bpf_map_update_elem(&histograms, &bucket, &zero, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&histograms, &bucket);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
