"""The object whose skeleton the tests write: each kind of part, with names that clash."""

from __future__ import annotations

SOURCE = """
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum level { LOW = 1, HIGH = 2 };
struct inner { __u16 a; __u8 b[2]; };
struct call {
	__u64 number;
	__u32 pid;
	bool ok;
	char comm[16];
	enum level level;
	struct inner inners[2];
	__u32 count;	/* a method of Python's tuples */
};
const struct call *const call_layout = 0;

struct map { __u32 str; __u32 other; };		/* called as types are */
const struct map *const map_layout = 0;
struct link { __u32 _hidden; __u32 class; };	/* what no record can have */
struct link link_value = {};
struct none { __u32 index; };
struct key { __u32 cpu; };
struct only_functions { __u32 x; };

struct odd {
	__u32 low : 3, high : 5;
	union { __u32 number; __u8 raw[4]; };
	struct { __u16 inside; };
	float ratio;
	double ratios[2];
	int grid[2][3];
	char names[2][4];
	void *pointer;
	int (*function)(int);
	struct forward *unknown;
	enum { MINUS = -1, PLUS } sign;
	struct { __u64 x; } point;
	unsigned __int128 wide;
	struct call *call;
};
const struct odd *const odd_layout = 0;
struct rest { __u32 size; __u8 data[]; };
const struct rest *const rest_layout = 0;
struct empty {};
const struct empty *const empty_layout = 0;

const volatile __u32 target_pid = 0;
const volatile bool quiet = false;
__s64 offset = -1;
enum level level = LOW;
char text[8] = "abc";
__u32 bytes = 0;
__u32 class = 0;
__u32 __private = 0;
__u32 _obj = 0;
__u32 seen SEC(".data.own") = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct key);
	__type(value, struct none);
} Map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4);
	__type(key, char[8]);
	__type(value, struct none);
} per_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} import SEC(".maps");

static __noinline int use(struct only_functions *value)
{
	return value ? value->x : 0;
}

SEC("raw_tp/sys_enter")
int on_enter(void *ctx)
{
	struct call *call;

	if (target_pid && bpf_get_current_pid_tgid() >> 32 != target_pid)
		return 0;
	seen += 1;
	if (quiet)
		return use(0);
	call = bpf_ringbuf_reserve(&events, sizeof(*call), 0);
	if (!call)
		return 0;
	__builtin_memset(call, 0, sizeof(*call));
	call->number = ++bytes;
	call->pid = bpf_get_current_pid_tgid() >> 32;
	call->ok = true;
	call->level = HIGH;
	call->count = class + __private + _obj;
	bpf_get_current_comm(call->comm, sizeof(call->comm));
	bpf_ringbuf_submit(call, 0);
	return 0;
}

SEC("kprobe")
int None(void *ctx)
{
	__u64 *slot = bpf_map_lookup_elem(&import, &(__u32){1});

	if (slot)
		__sync_fetch_and_add(slot, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
"""
