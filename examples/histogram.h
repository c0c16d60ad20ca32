/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Times by powers of two, as runqlat and biolatency count them. */
#define SLOTS 28

/* The slot of a time: N holds 2^(N-1) up to 2^N microseconds, the first one less, the last more. */
static __always_inline __u32 slot_of(__u64 nanoseconds)
{
	__u64 rest = nanoseconds / 1000;
	__u32 slot = 0;

	for (int bit = 0; bit < SLOTS - 1; bit++) {
		if (rest) {
			rest >>= 1;
			slot++;
		}
	}
	return slot;
}
