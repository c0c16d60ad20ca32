// SPDX-License-Identifier: BSD-2-Clause
/*
 * The traced process: calls a cheap system call from pinned threads.
 *
 *   producer CPUS SYSCALL calls N           N calls of each thread, flat out
 *   producer CPUS SYSCALL seconds S         flat out for about S seconds
 *   producer CPUS SYSCALL rate R S          R calls a second of each thread, for S seconds
 *
 * CPUS is a list of CPU numbers, one thread for each: 0 or 0,1. SYSCALL is getppid,
 * or openat of a file that is not there. At the first byte on stdin it makes
 * WARM_UP calls and says so; at the second it does its work, prints its calls, the
 * nanoseconds that went by and those within the calls (a paced thread waits in
 * between), and waits for the end of stdin.
 *
 * A single thread makes no other system call meanwhile: clock_gettime is the
 * vDSO's. A tracer that is attached before the first byte, and stays, also sees two
 * writes, and the two reads after them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 64
#define NSEC 1000000000ULL
#define WARM_UP 256		/* whatever a reader does at its first event, it does now */
#define LOOK 256		/* calls between two looks at the clock */
#define STEP_NSEC 20000		/* a paced thread makes the calls that are due so often */

struct thread {
	pthread_t id;
	int cpu;
	uint64_t calls;
	uint64_t nsec;
	uint64_t busy;
};

static long number;
static const char *mode;
static uint64_t amount, rate;
static atomic_int waiting, started;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

static inline void call(long count)
{
	while (count-- > 0)
		syscall(number, AT_FDCWD, "/nonexistent/producer", O_RDONLY);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

static void produce(struct thread *thread)
{
	uint64_t begin = now(), end = begin + amount, time, due, next;
	uint64_t done = 0, busy = 0;

	if (!strcmp(mode, "calls")) {
		call(amount);
		done = amount;
	} else if (!strcmp(mode, "seconds")) {
		do {
			call(LOOK);
			done += LOOK;
		} while (now() < end);
	} else {
		while ((time = now()) < end) {
			due = (time - begin) * rate / NSEC;
			if (due > done) {
				due = due - done < LOOK ? due - done : LOOK;
				call(due);
				done += due;
				busy += now() - time;
			}
			next = time + STEP_NSEC;
			while (now() < next)
				;
		}
	}
	thread->calls = done;
	thread->nsec = now() - begin;
	thread->busy = busy ? busy : thread->nsec;
}

static void *run(void *argument)
{
	struct thread *thread = argument;

	pin(thread->cpu);
	atomic_fetch_add(&waiting, 1);
	while (!atomic_load(&started))
		;
	produce(thread);
	return NULL;
}

int main(int argc, char **argv)
{
	struct thread threads[MAX_THREADS] = {};
	uint64_t calls = 0, nsec = 0, busy = 0;
	int count = 0, i;
	char *cpu, byte;
	size_t length;
	char line[64];

	if (argc < 5)
		goto usage;
	for (cpu = strtok(argv[1], ","); cpu && count < MAX_THREADS; cpu = strtok(NULL, ","))
		threads[count++].cpu = atoi(cpu);
	number = !strcmp(argv[2], "openat") ? SYS_openat : SYS_getppid;
	mode = argv[3];
	if (!strcmp(mode, "calls")) {
		amount = strtoull(argv[4], NULL, 10);
	} else if (!strcmp(mode, "seconds")) {
		amount = strtod(argv[4], NULL) * NSEC;
	} else if (!strcmp(mode, "rate") && argc == 6) {
		rate = strtoull(argv[4], NULL, 10);
		amount = strtod(argv[5], NULL) * NSEC;
	} else {
		goto usage;
	}
	if (!count || !amount)
		goto usage;

	pin(threads[0].cpu);
	now();			/* sets up what the vDSO needs */
	if (read(0, &byte, 1) != 1)
		return 1;
	call(WARM_UP);
	length = snprintf(line, sizeof(line), "%d\n", WARM_UP);
	if (write(1, line, length) != (ssize_t)length || read(0, &byte, 1) != 1)
		return 1;
	for (i = 1; i < count; i++)
		if (pthread_create(&threads[i].id, NULL, run, &threads[i]))
			fail("pthread_create");
	while (atomic_load(&waiting) < count - 1)
		;
	atomic_store(&started, 1);
	produce(&threads[0]);
	for (i = 0; i < count; i++) {
		if (i)
			pthread_join(threads[i].id, NULL);
		calls += threads[i].calls;
		busy += threads[i].busy;
		nsec = threads[i].nsec > nsec ? threads[i].nsec : nsec;
	}
	length = snprintf(line, sizeof(line), "%llu %llu %llu\n", (unsigned long long)calls,
			  (unsigned long long)nsec, (unsigned long long)busy);
	if (write(1, line, length) != (ssize_t)length)
		return 1;
	return read(0, &byte, 1) != 0;
usage:
	fputs("usage: producer CPUS getppid|openat calls N | seconds S | rate R S\n", stderr);
	return 2;
}
