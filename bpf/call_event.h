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
 * struct syscall_event's. Of a return the time and the CPU are the return's, and all else is
 * as it was when the call began. libbpf_ctypes/events.py holds the same layout.
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
	__u64 duration_ns;	/* of a return: since the call began */
	__u64 kernel_stack;	/* its key in the STACKS map; 0: not asked for, or no room */
	__u64 user_stack;
	__u64 values[CALL_VALUES];	/* of a text: bytes with the NUL; 0: a NULL pointer */
	char texts[CALL_TEXTS][CALL_TEXT_LEN];	/* as many as the trace uses are sent */
};

_Static_assert(__builtin_offsetof(struct call_event, function) == sizeof(struct syscall_event),
	       "call_event does not begin as syscall_event does");
_Static_assert(__builtin_offsetof(struct call_event, texts) == 176, "texts moved");

#define TIMED_SIZE 24		/* of a call of which no more than the time is wanted */

_Static_assert(__builtin_offsetof(struct call_event, comm) == TIMED_SIZE, "comm moved");

/* Where a fetch begins: an argument's register, or one of these. */
#define SOURCE_RECORD 0		/* the address of a tracepoint's record */
#define SOURCE_STACK 8		/* the stack pointer */
#define SOURCE_TASK 9		/* the current struct task_struct */
#define SOURCE_RETURN 10	/* the return value */
#define SOURCES 16

#define FETCH_USED 1
#define FETCH_AT_RETURN 2	/* it is for the return; others are for the call's beginning */
#define FETCH_IN_RECORD 4	/* a text's place: its offset's low 16 bits in the record */

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
#define FUNCTION_FIRST 2	/* of a program: the probe is at its first instruction */
#define FUNCTION_HIDES 4	/* there the kernel does not find its caller */

/* What is to be done at a function. */
struct function {
	__u32 flags;
	__u32 truth;		/* bit i: the filter's result where i's bits are the comparisons' */
	__u32 failed;		/* enum failed: which returns --failed lets through */
	__u32 failed_shift;	/* of FAILED_NEGATIVE: 64 less the value's bits */
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

/* Which return values tell of an error. */
enum failed { FAILED_ANY, FAILED_NEGATIVE, FAILED_POINTER, FAILED_ERRNO, FAILED_MINUS_ONE };

#define COMM_PATTERN FILTER_COMPARISONS	/* the filter's come before it */
#define PATTERNS_MAX (FILTER_COMPARISONS + 1)

/* What a choice is of: -p, --tid, --uid and --cpu fill one map. */
enum chosen { CHOSEN_PID = 1, CHOSEN_TID = 2, CHOSEN_UID = 4, CHOSEN_CPU = 8 };

struct choice {
	__u32 what;		/* enum chosen */
	__u32 number;
};

#define STACK_FRAMES 127

/* A stack, innermost first; its key is made of its frames, and of its program. */
struct stack {
	__u64 count;
	__u64 program;		/* mm->start_stack, another one after each exec; 0: not known */
	__u64 frames[STACK_FRAMES];
};

/* A call that has not returned. Each has its own place on its thread's stack. */
struct span {
	__u32 tid;
	__u32 function;
	__u64 stack_pointer;
};

/* What calls are counted by: bits of group_by. What is not asked for is 0. */
enum by { BY_FUNCTION = 1, BY_PID = 2, BY_TID = 4, BY_CPU = 8, BY_UID = 16, BY_COMM = 32,
	  BY_VALUE = 64, BY_KERNEL_STACK = 128, BY_USER_STACK = 256 };

struct group {
	__u32 function;
	__u32 pid;
	__u32 tid;
	__u32 cpu;
	__u32 uid;
	__u32 padding;
	__u64 value;		/* values[0] of the event */
	__u64 kernel_stack;
	__u64 user_stack;
	char comm[SYSCALL_EVENT_COMM_LEN];
	char text[CALL_TEXT_LEN];	/* texts[0]; not in the key where no text is asked for */
};

#define TALLY_SLOTS 64

/* A group's calls; of mere counting only the count is kept. */
struct tally {
	__u64 count;
	__u64 total_ns;
	__u64 max_ns;
	__u64 slots[TALLY_SLOTS];
};

_Static_assert(__builtin_offsetof(struct group, text) == 64, "text moved");

#endif /* CALL_EVENT_H */
