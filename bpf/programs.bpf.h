/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The programs: what each does at a call's beginning, or at its return. */

enum deed { SEND, KEEP, COUNT };

/* What becomes of a call; it is sent, kept or counted where nothing is against it. */
static __always_inline int at_call(void *ctx, enum place place, enum deed deed)
{
	/* Who counts without an end does not look at the clock. */
	bool timed = deed != COUNT || until_ns != ~0ULL;
	__u64 timestamp_ns = timed ? bpf_ktime_get_ns() : 0;
	struct function *function = 0;
	struct scratch *scratch;
	enum outcome outcome;

	if (timestamp_ns > until_ns)
		return 0;
	scratch = take_scratch();
	if (!scratch) {
		count(NO_ROOM);
		return 0;
	}
	outcome = choose(ctx, scratch, place, deed != COUNT || values_used, &function);
	if (outcome == SENT && function) {
		if (deed == COUNT) {
			outcome = count_call(ctx, scratch, place, function);
		} else {
			describe(ctx, scratch, place, function, timestamp_ns);
			outcome = deed == KEEP ? keep_call(ctx, &scratch->event) :
						 send_event(ctx, &scratch->event);
		}
	} else if (deed == KEEP && function) {
		forget_before(ctx, &scratch->event);
	}
	give_back(scratch);
	count(outcome);
	return 0;
}

/* frame: see leave(). */
static __always_inline int at_return(void *ctx, __u64 frame, enum deed deed)
{
	__u64 timestamp_ns = bpf_ktime_get_ns();
	enum outcome outcome = UNMATCHED;
	struct scratch *scratch;

	if (timestamp_ns > until_ns)
		return 0;
	scratch = take_scratch();
	if (!scratch)	/* it stays among those that have begun */
		return 0;
	if (leave(ctx, scratch, timestamp_ns, frame)) {
		count(ENDED);
		outcome = deed == COUNT ? count_return(scratch) : send_return(ctx, scratch);
	}
	give_back(scratch);
	count(outcome);
	return 0;
}

SEC("?kprobe")
int call_kprobe(void *ctx)
{
	return at_call(ctx, FUNCTION, SEND);
}

SEC("?kprobe.multi")
int call_kprobe_multi(void *ctx)
{
	return at_call(ctx, FUNCTION, SEND);
}

SEC("?tracepoint")
int call_tracepoint(void *ctx)
{
	return at_call(ctx, TRACEPOINT, SEND);
}

SEC("?kprobe")
int enter_kprobe(void *ctx)
{
	return at_call(ctx, FUNCTION, KEEP);
}

SEC("?kprobe.multi")
int enter_kprobe_multi(void *ctx)
{
	return at_call(ctx, FUNCTION, KEEP);
}

SEC("?kprobe")
int return_kprobe(void *ctx)
{
	return at_return(ctx, 0, SEND);
}

SEC("?kprobe.multi")
int return_kprobe_multi(void *ctx)
{
	return at_return(ctx, handler_frame, SEND);
}

SEC("?kprobe")
int time_kprobe(void *ctx)
{
	return at_return(ctx, 0, COUNT);
}

SEC("?kprobe.multi")
int time_kprobe_multi(void *ctx)
{
	return at_return(ctx, handler_frame, COUNT);
}

SEC("?kprobe")
int count_kprobe(void *ctx)
{
	return at_call(ctx, FUNCTION, COUNT);
}

SEC("?kprobe.multi")
int count_kprobe_multi(void *ctx)
{
	return at_call(ctx, FUNCTION, COUNT);
}

SEC("?tracepoint")
int count_tracepoint(void *ctx)
{
	return at_call(ctx, TRACEPOINT, COUNT);
}
