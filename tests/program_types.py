"""A program of every type, and what becomes of it on each kernel the tests know.

``python program_types.py FOLDER`` loads what tests compiled into FOLDER and prints
what came of it as JSON: a guest runs that.
"""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any, Callable, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from libbpf_ctypes import AttachType, BpfError, BpfObject, ProgramType

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";
"""

PLAIN = """
SEC("{section}")
int program(void *ctx)
{{
	return {value};
}}
"""

STRUCT_OPS = """
struct sock;
struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
};

SEC("struct_ops/program")
__u32 program(void *ctx)
{
	return 2;
}

SEC("struct_ops/undo_cwnd")
__u32 undo_cwnd(void *ctx)
{
	return 2;
}

SEC("struct_ops/cong_avoid")
void cong_avoid(void *ctx)
{
}

SEC(".struct_ops")
struct tcp_congestion_ops congestion = {
	.ssthresh = (void *)program,
	.cong_avoid = (void *)cong_avoid,
	.undo_cwnd = (void *)undo_cwnd,
	.name = "program_types",
};
"""

#: What the freplace program replaces a function of; loaded beside it.
REPLACED = """
__attribute__((noinline)) int replaced(struct xdp_md *ctx)
{
	volatile int verdict = XDP_PASS;

	return ctx ? verdict : XDP_DROP;
}

SEC("xdp")
int target(struct xdp_md *ctx)
{
	return replaced(ctx);
}
"""

REPLACEMENT = """
SEC("freplace/replaced")
int program(struct xdp_md *ctx)
{
	return ctx ? XDP_TX : XDP_DROP;
}
"""


class Refusal(NamedTuple):
    """That a kernel refuses a program, why, and what the error says of it."""

    errno: int
    why: str
    words: str


class Case(NamedTuple):
    """A program: its type, its section, what it returns or its whole source, and where it fails.

    The kernels are those of tests/vm, and "bare": the running one if it has no kprobes.
    """

    type: ProgramType
    section: str
    value: str = "0"
    source: str = ""
    attach_type: AttachType | None = None  # where an older libbpf does not know the section
    refused: dict[str, Refusal] = {}  # noqa: RUF012


NO_TRAMPOLINES = {
    "bare": Refusal(
        errno.EPERM,
        "it forbids programs that attach to functions: no kprobes, no ftrace, locked down",
        "the kernel or a container's seccomp filter forbids it",
    )
}
_LIRC = Refusal(
    errno.EINVAL,
    "no CONFIG_BPF_LIRC_MODE2: Debian builds the core of remote controls as a module",
    "This kernel has no programs of type LIRC_MODE2",
)
NO_LIRC = {"bare": _LIRC, "6.1": _LIRC, "6.12": _LIRC}
NO_NETFILTER = {
    "6.1": Refusal(errno.EINVAL, "programs of type NETFILTER came with Linux 6.4", "type NETFILTER")
}

T = ProgramType
CASES = {
    case.section: case
    for case in (
        Case(T.SOCKET_FILTER, "socket"),
        Case(T.KPROBE, "kprobe/vfs_read"),
        Case(T.SCHED_CLS, "tc"),
        Case(T.SCHED_ACT, "action"),
        Case(T.TRACEPOINT, "tracepoint/sched/sched_switch"),
        Case(T.XDP, "xdp", "XDP_PASS"),
        Case(T.PERF_EVENT, "perf_event"),
        Case(T.CGROUP_SKB, "cgroup_skb/ingress", "1"),
        Case(T.CGROUP_SOCK, "cgroup/sock_create", "1"),
        Case(T.LWT_IN, "lwt_in"),
        Case(T.LWT_OUT, "lwt_out"),
        Case(T.LWT_XMIT, "lwt_xmit"),
        Case(T.SOCK_OPS, "sockops", "1"),
        Case(T.SK_SKB, "sk_skb/stream_verdict", "SK_PASS"),
        Case(T.CGROUP_DEVICE, "cgroup/dev", "1"),
        Case(T.SK_MSG, "sk_msg", "SK_PASS"),
        Case(T.RAW_TRACEPOINT, "raw_tp/sched_switch"),
        Case(T.CGROUP_SOCK_ADDR, "cgroup/connect4", "1"),
        Case(T.LWT_SEG6LOCAL, "lwt_seg6local"),
        Case(T.LIRC_MODE2, "lirc_mode2", refused=NO_LIRC),
        Case(T.SK_REUSEPORT, "sk_reuseport", "SK_PASS"),
        Case(T.FLOW_DISSECTOR, "flow_dissector"),
        Case(T.CGROUP_SYSCTL, "cgroup/sysctl", "1"),
        Case(T.RAW_TRACEPOINT_WRITABLE, "raw_tp.w/bpf_test_finish"),
        Case(T.CGROUP_SOCKOPT, "cgroup/getsockopt", "1"),
        Case(T.TRACING, "fentry/vfs_read", refused=NO_TRAMPOLINES),
        Case(T.TRACING, "fexit/vfs_read", refused=NO_TRAMPOLINES),
        Case(T.TRACING, "fmod_ret/security_file_open", refused=NO_TRAMPOLINES),
        Case(T.TRACING, "tp_btf/sched_switch"),
        Case(T.TRACING, "iter/task"),
        Case(T.STRUCT_OPS, "struct_ops/program", source=STRUCT_OPS),
        Case(T.EXT, "freplace/replaced", source=REPLACEMENT, refused=NO_TRAMPOLINES),
        Case(T.LSM, "lsm/file_open", refused=NO_TRAMPOLINES),
        Case(T.LSM, "lsm_cgroup/socket_create", "1", refused=NO_TRAMPOLINES),
        Case(T.SK_LOOKUP, "sk_lookup", "SK_PASS"),
        Case(T.SYSCALL, "syscall"),
        Case(T.NETFILTER, "netfilter", "1", attach_type=AttachType.NETFILTER, refused=NO_NETFILTER),
    )
}


def compile_all(compile_bpf: Callable[..., Path], folder: Path) -> Path:
    """Compiles every program into a folder."""
    for section, case in CASES.items():
        source = case.source or PLAIN.format(section=section, value=case.value)
        _compile(compile_bpf, source, folder / file_name(section))
    _compile(compile_bpf, REPLACED, folder / "target.bpf.o")
    return folder


def _compile(compile_bpf: Callable[..., Path], source: str, path: Path) -> None:
    compile_bpf(HEAD + source, "-Wno-unused-parameter", name=path.name).replace(path)


def file_name(section: str) -> str:
    return section.replace("/", "_") + ".bpf.o"


def load(case: Case, folder: Path) -> dict[str, Any]:
    """Loads a case's object; what came of it, as JSON can carry it."""
    with BpfObject.open(folder / file_name(case.section)) as obj:
        program = obj.programs["program"]
        found = program.type
        if found == ProgramType.UNSPEC and case.attach_type is not None:
            program.type = case.type
            program.expected_attach_type = case.attach_type
        answer: dict[str, Any] = {"type": program.type.name, "by_section": found.name, "errno": 0}
        answer.update(text="", log="")
        try:
            if case.type == ProgramType.EXT:
                with BpfObject.open(folder / "target.bpf.o") as target:
                    target.load()
                    program.set_attach_target("replaced", target.programs["target"])
                    obj.load()
            else:
                obj.load()
            answer["info"] = program.info.type.name
        except BpfError as error:
            answer.update(errno=error.errno, text=str(error), log=error.log)
    return answer


def check(case: Case, kernel: str, outcome: dict[str, Any]) -> None:
    """Compares what came of a case with what is known of the kernel."""
    expected = case.refused.get(kernel)
    assert outcome["type"] == case.type.name, outcome
    if case.attach_type is None:  # every libbpf 1.x knows the section
        assert outcome["by_section"] == case.type.name, outcome
    if expected is None:
        assert outcome["errno"] == 0, outcome["text"] + outcome["log"]
        assert outcome["info"] == case.type.name
        return
    assert outcome["errno"] == expected.errno, (expected.why, outcome)
    assert errno.errorcode[expected.errno] in outcome["text"]
    assert expected.words in outcome["text"], outcome


def main() -> None:
    """Loads every object of a folder."""
    folder = Path(sys.argv[1])
    print(json.dumps({section: load(case, folder) for section, case in CASES.items()}))


if __name__ == "__main__":
    main()
