/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef CALL_EVENT_H
#define CALL_EVENT_H

#include "syscall_event.h"

#define CALL_VALUES 8
#define CALL_TEXTS 4
#define CALL_TEXT_LEN 256
#define FETCH_READS 5
#define FILTER_COMPARISONS 4

/*
 * One call of a probed function with all that was asked for. Its first 40 bytes are
 * struct syscall_event's. libbpf_ctypes/events.py holds the same layout.
 */
struct call_event {
	__u32 pid;		/* as the tracer's pid namespace numbers it; 0: it is not in there */
	__u32 tid;
	__u64 syscall_nr;	/* first argument register; of a system call its first argument */
	__u64 timestamp_ns;	/* bpf_ktime_get_ns(): CLOCK_MONOTONIC */
	char comm[SYSCALL_EVENT_COMM_LEN];
	__u32 function;		/* the attach cookie: the function's place in the FUNCTIONS map */
	__u32 cpu;
	__u32 uid;		/* as the initial user namespace numbers it */
	__u32 gid;
	__u32 host_pid;		/* as the initial pid namespace numbers it */
	__u32 host_tid;
	__u32 ns_pid;		/* as the process's own pid namespace numbers it; 0: not asked for */
	__u32 ns_tid;
	__u64 cgroup;		/* id of its cgroup v2: the inode of the cgroup's directory */
	__u64 unreadable;	/* bit i: values[i] could not be read */
	__u64 values[CALL_VALUES];	/* of a text: bytes with the NUL; 0: a NULL pointer */
	char texts[CALL_TEXTS][CALL_TEXT_LEN];	/* as many as the trace uses are sent */
};

_Static_assert(__builtin_offsetof(struct call_event, function) == sizeof(struct syscall_event),
	       "call_event does not begin as syscall_event does");
_Static_assert(__builtin_offsetof(struct call_event, comm) ==
	       __builtin_offsetof(struct syscall_event, comm), "comm moved");
_Static_assert(__builtin_offsetof(struct call_event, texts) == 152, "texts moved");

/* Where a fetch begins: an argument's register, or one of these. */
#define SOURCE_STACK 8		/* the stack pointer */
#define SOURCE_TASK 9		/* the current struct task_struct */
#define SOURCES 16

#define FETCH_USED 1

/* How a value is come by: a register, and pointers that are followed from it. */
struct fetch {
	__u8 source;
	__u8 steps;		/* reads: value = *(value + offsets[i]) */
	__u8 size;		/* bytes of the last read; those before it read a pointer */
	__u8 text;		/* 0: a number; n: a string at value + offsets[steps], to texts[n - 1] */
	__u8 left;		/* value << left >> right: cuts it to its width, or a bit field */
	__u8 right;
	__u8 is_signed;		/* the shift to the right copies the sign */
	__u8 flags;
	__u32 offsets[FETCH_READS + 1];
};

enum operator { NONE, EQUAL, NOT_EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, MATCHES,
		SIGNED = 8 };

/* A comparison of a --filter: (value & mask) OPERATOR constant, or text MATCHES pattern. */
struct comparison {
	struct fetch fetch;
	__u64 mask;
	__u64 value;
	__u8 operator;
	__u8 pattern;
	__u8 padding[6];
};

#define FUNCTION_UNWRAP 1	/* the arguments lie in the pt_regs that the first one points to */

/* What is to be done at a function. */
struct function {
	__u32 flags;
	__u32 truth;		/* bit i: the filter's result where i's bits are the comparisons' */
	struct fetch fetches[CALL_VALUES];
	struct comparison comparisons[FILTER_COMPARISONS];
};

/* A pattern as an automaton: bit i of a set of states is state i. */
struct pattern {
	__u64 table[256];	/* by byte: the states that go one on at it */
	__u64 start;
	__u64 loops;		/* the states that stay at any byte */
	__u64 accept;
};

#define COMM_PATTERN FILTER_COMPARISONS	/* the filter's come before it */
#define PATTERNS_MAX (FILTER_COMPARISONS + 1)

/* What a choice is of: -p, --tid, --uid and --cpu fill one map. */
enum chosen { CHOSEN_PID = 1, CHOSEN_TID = 2, CHOSEN_UID = 4, CHOSEN_CPU = 8 };

struct choice {
	__u32 what;		/* enum chosen */
	__u32 number;
};

#endif /* CALL_EVENT_H */
