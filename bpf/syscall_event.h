/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef SYSCALL_EVENT_H
#define SYSCALL_EVENT_H

#include <linux/types.h>

#define SYSCALL_EVENT_COMM_LEN 16

/*
 * One call of the probed function, as it is sent through the EVENTS map.
 * libbpf_ctypes/events.py holds the same layout as a construct Struct.
 */
struct syscall_event {
	__u32 pid;		/* thread group id: what user space calls the pid */
	__u32 tid;		/* thread id: what the kernel calls the pid */
	__u64 syscall_nr;	/* first argument register of the probed function */
	__u64 timestamp_ns;	/* bpf_ktime_get_ns(): CLOCK_MONOTONIC */
	char comm[SYSCALL_EVENT_COMM_LEN];
};

_Static_assert(sizeof(struct syscall_event) == 40, "syscall_event has padding");
_Static_assert(__builtin_offsetof(struct syscall_event, tid) == 4, "tid moved");
_Static_assert(__builtin_offsetof(struct syscall_event, syscall_nr) == 8, "syscall_nr moved");
_Static_assert(__builtin_offsetof(struct syscall_event, timestamp_ns) == 16, "timestamp_ns moved");
_Static_assert(__builtin_offsetof(struct syscall_event, comm) == 24, "comm moved");

/* What became of the calls on one CPU: each is counted once, when it is done with. */
struct counters {
	__u64 filtered;		/* left out by the filters, or the tracer's own */
	__u64 sent;		/* written to the buffer */
	__u64 refused;		/* the buffer was full, or had no reader on this CPU */
	__u64 unreadable;	/* left out: what --filter asks for could not be read */
	__u64 begun;		/* kept until they return */
	__u64 ended;		/* of those: returned; it is in one of the others, too */
	__u64 no_room;		/* left out: no room to keep or to count them */
	__u64 unmatched;	/* returns of calls that were not kept */
	__u64 no_stack;		/* stacks that could not be kept; their calls are in the others */
};

#endif /* SYSCALL_EVENT_H */
