// SPDX-License-Identifier: BSD-2-Clause
/*
 * The peer in C: libbpf's perf buffer with a callback that looks at every event.
 *
 *   c_reader OBJECT PID [WAKEUP_EVENTS [PAGES]]
 *
 * Without WAKEUP_EVENTS it is perf_buffer__new as it comes, a wake-up for each event;
 * with it, one for so many, and a look at the buffers ten times a second. Prints
 * "attached", and its counts as JSON at SIGINT or SIGTERM.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../../bpf/syscall_event.h"

#define PAGES 64
#define TIMEOUT_MS 100

struct lost_record {
	struct perf_event_header header;
	__u64 id;
	__u64 count;
};

struct sample_record {
	struct perf_event_header header;
	__u32 size;
	char data[];
};

static unsigned long long events, lost, wrong, numbers, newest;
static volatile sig_atomic_t stopping;

static void stop(int signal)
{
	(void)signal;
	stopping = 1;
}

static void on_sample(void *context, int cpu, void *data, __u32 size)
{
	const struct syscall_event *event = data;

	(void)context;
	(void)cpu;
	if (size < sizeof(*event)) {
		wrong++;
		return;
	}
	events++;
	numbers += event->syscall_nr;
	if (event->timestamp_ns > newest)
		newest = event->timestamp_ns;
}

static void on_lost(void *context, int cpu, __u64 count)
{
	(void)context;
	(void)cpu;
	lost += count;
}

static enum bpf_perf_event_ret on_record(void *context, int cpu, struct perf_event_header *header)
{
	if (header->type == PERF_RECORD_SAMPLE) {
		struct sample_record *sample = (void *)header;

		on_sample(context, cpu, sample->data, sample->size);
	} else if (header->type == PERF_RECORD_LOST) {
		on_lost(context, cpu, ((struct lost_record *)header)->count);
	}
	return LIBBPF_PERF_EVENT_CONT;
}

static int fail(const char *what)
{
	fprintf(stderr, "c_reader: %s: %s\n", what, strerror(errno));
	return 1;
}

static int set_target(struct bpf_object *object, __u32 pid)
{
	struct bpf_map *map;
	size_t size;
	char *value;

	/* target_pid is the first variable of .rodata: see bpf/kprobe.bpf.c. */
	bpf_object__for_each_map(map, object) {
		if (!strstr(bpf_map__name(map), ".rodata"))
			continue;
		value = (char *)bpf_map__initial_value(map, &size);
		if (!value || size < sizeof(pid))
			return -1;
		memcpy(value, &pid, sizeof(pid));
		return 0;
	}
	errno = ENOENT;
	return -1;
}

int main(int argc, char **argv)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_BPF_OUTPUT,
		.sample_type = PERF_SAMPLE_RAW,
		.sample_period = 1,
	};
	struct bpf_program *program;
	struct perf_buffer *buffer;
	struct bpf_object *object;
	struct sigaction action = { .sa_handler = stop };
	int fd, ready;

	if (argc < 3) {
		fputs("usage: c_reader OBJECT PID [WAKEUP_EVENTS [PAGES]]\n", stderr);
		return 2;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	object = bpf_object__open(argv[1]);
	if (!object || set_target(object, atoi(argv[2])))
		return fail(argv[1]);
	if (bpf_object__load(object))
		return fail("bpf_object__load");
	fd = bpf_object__find_map_fd_by_name(object, "EVENTS");
	if (argc > 3) {
		attr.wakeup_events = atoi(argv[3]);
		buffer = perf_buffer__new_raw(fd, argc > 4 ? atoi(argv[4]) : PAGES, &attr, on_record, NULL, NULL);
	} else {
		buffer = perf_buffer__new(fd, PAGES, on_sample, on_lost, NULL, NULL);
	}
	if (!buffer)
		return fail("perf_buffer__new");
	program = bpf_object__find_program_by_name(object, "syscall_kprobe");
	if (!program || !bpf_program__attach(program))
		return fail("bpf_program__attach");
	puts("attached");
	fflush(stdout);
	while (!stopping) {
		ready = perf_buffer__poll(buffer, TIMEOUT_MS);
		if (ready < 0 && ready != -EINTR)
			return fail("perf_buffer__poll");
		if (ready == 0)		/* what no wake-up has told of */
			perf_buffer__consume(buffer);
	}
	perf_buffer__consume(buffer);
	printf("{\"events\": %llu, \"lost\": %llu, \"wrong\": %llu, \"mean_nr\": %llu, \"newest\": %llu}\n",
	       events, lost, wrong, events ? numbers / events : 0, newest);
	return 0;
}
