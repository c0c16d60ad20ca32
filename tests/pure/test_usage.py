"""The command line: what is wrong with it is said in words, and by its name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import docopt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libbpf_ctypes.cli import replay, synopsis, usage
from libbpf_ctypes.cli.aggregate_options import read_aggregate
from libbpf_ctypes.cli.line_options import LineOptions
from libbpf_ctypes.cli.options import Options, read_options

from .helpers import run_tool, usage_text

DOC = usage_text()


def parse(line: str) -> dict[str, Any]:
    return usage.parse(DOC, shlex.split(line))


# Each wrong command line, and what its message must say.
WRONG = [
    ("", "no command given; there is: kprobe"),
    ("-v", "no command given"),
    ("-d 5", "no command given"),
    ("trace", "'trace'"),
    ("kprob vfs_read", "did you mean kprobe?"),
    ("KPROBE vfs_read", "'KPROBE'"),
    ("'two words' vfs_read", "'two words'"),
    ("'' vfs_read", "unknown command ''"),
    ("- vfs_read", "unknown command '-'"),
    ("vfs_read kprobe", "'vfs_read'"),
    ("kprobe", "needs the name of a function"),
    ("kprobe -d 5", "needs the name of a function"),
    ("kprobe --duration 5 --pid 3", "needs the name of a function"),
    ("kprobe vfs_read -x", "unknown option -x"),
    ("kprobe vfs_read -qx", "unknown option -x"),
    ("kprobe vfs_read --colour", "unknown option --colour"),
    ("kprobe vfs_read --objct=f", "did you mean --object?"),
    ("kprobe vfs_read --durations 5", "did you mean --duration?"),
    ("-x kprobe vfs_read", "unknown option -x"),
    ("kprobe vfs_read -d", "option -d needs a value"),
    ("kprobe vfs_read -vd", "option -d needs a value"),
    ("kprobe vfs_read -p", "option -p needs a value"),
    ("kprobe vfs_read --pid", "option --pid needs a value"),
    ("kprobe vfs_read --time", "option --time needs a value"),
    ("kprobe vfs_read --object", "option --object needs a value"),
    ("kprobe vfs_read --quiet=yes", "option --quiet takes no value"),
    ("kprobe vfs_read --verbose=1", "option --verbose takes no value"),
    ("kprobe vfs_read -d 1 -d 2", "option -d is given twice"),
    ("kprobe vfs_read --cpu 1 --cpu=2", "option --cpu is given twice"),
    ("list a b", "list takes one pattern, and 'b' is one too many"),
    ("doctor a", "doctor takes no name, and 'a' is one too many"),
    ("doctor --json --args", "doctor takes no option --args"),
    ("kprobe vfs_read -q -q", "option -q is given twice"),
    ("kprobe vfs_read --raw-args --raw-args", "option --raw-args is given twice"),
    ("schema", "needs the name of an object file"),
    ("schema a.o b c", "'c' is one too many"),
    ("uprobe libc:read -k", "uprobe takes no option -k"),
    ("uretprobe libc:read --address 0x10", "uretprobe takes no option --address"),
    ("tracepoint a:b --all", "tracepoint takes no option --all"),
    ("schema a.o -d 5", "schema takes no option -d"),
    ("schema a.o --colour", "unknown option --colour"),
    ("--version vfs_read", "'vfs_read'"),
    ("", "latency, count, list, doctor, replay"),
    ("replya f", "did you mean replay?"),
    ("replay", "replay needs the name of a recording, as in 'ebpf-tool replay trace.rec'"),
    ("replay a b", "replay takes one recording, and 'b' is one too many"),
    ("replay a -d 5", "replay takes no option -d"),
    ("replay a --duration=5", "replay takes no option --duration"),
    ("replay a --record=b", "replay takes no option --record"),
    ("-v replay a", "replay takes no option -v"),
    ("replay a --include-self", "replay takes no option --include-self"),
    ("replay a --pidd=5", "did you mean --pid?"),
    ("replay a -p", "option -p needs a value"),
    ("doctor vfs_read", "doctor takes no name, and 'vfs_read' is one too many"),
    ("doctor -d 5", "doctor takes no option -d"),
    ("doctor --jsn", "did you mean --json?"),
    ("doctor --json=1", "option --json takes no value"),
    ("kprobe vfs_read --record", "option --record needs a value"),
    ("kprobe vfs_read --buffer", "option --buffer needs a value"),
    ("replay a --buffer=1M", "replay takes no option --buffer"),
    ("replay a --unsorted", "replay takes no option --unsorted"),
]


@pytest.mark.parametrize(("line", "told"), WRONG)
def test_the_message_names_what_is_wrong(line: str, told: str) -> None:
    with pytest.raises(usage.UsageError) as caught:
        parse(line)
    assert told in str(caught.value)
    assert "Usage:" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "",
        "kprobe",
        "kprobe vfs_read -x",
        "kprobe vfs_read 5",
        "kprobe vfs_read -5",
        "kprobe vfs_read -d soon",
        "kprobe vfs_read --time=utc",
        "kprobe 'vfs read'",
        "kprobe ''",
    ],
)
def test_wrong_usage_ends_with_2_and_one_sentence(line: str) -> None:
    done = run_tool(*shlex.split(line))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("ebpf-tool: ")
    command = "kprobe " if line else ""
    assert done.stderr.endswith(f"\nTry 'ebpf-tool {command}--help'.\n")
    assert "Usage:" not in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_help_and_version() -> None:
    done = run_tool("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == DOC.strip()
    assert run_tool("-h").stdout == done.stdout
    assert run_tool("--hel").stdout == done.stdout
    missing = run_tool("--version", LIBBPF_CTYPES_LIBRARY="/nonexistent/libbpf.so")
    assert missing.returncode == 1
    assert missing.stdout.startswith("ebpf-tool ")
    assert "/nonexistent/libbpf.so" in missing.stdout


words = st.one_of(
    st.text(),
    st.sampled_from(
        shlex.split("kprobe replay vfs_read -d 5 -p 3 -q -v -vv -h --help --version -- -")
    ),
    st.sampled_from(shlex.split("--duration=5 --pid --time=ns --object=x --raw-args --show-tid")),
    st.text("-=dpqvhx5 ", max_size=5),
)


@given(st.lists(words, max_size=6))
@example(["kprobe", "--", "vfs_read"])
@example(["kprobe", "f", "--v"])
@example(["kprobe", "f", "--="])
@example(["[options]"])
def test_any_words_are_read_or_refused_in_words(line: list[str]) -> None:
    try:
        found = usage.parse(DOC, line)
        if not found["--version"]:
            if found["replay"]:
                assert isinstance(replay.read_options(found), replay.Options)
            else:
                assert isinstance(read_options(found), Options)
    except usage.UsageError as error:
        assert str(error)
        assert "Usage:" not in str(error)
    except SystemExit as end:
        assert end.code == 0, "only --help ends here"


def test_options_as_they_are_read() -> None:
    options = read_options(parse("kprobe vfs_read -d 2.5 -p 12 --time=wall --show-tid -q"))
    assert options.function == "vfs_read"
    assert options.seconds == 2.5
    assert options.lines == LineOptions(pids=(12,), show_tid=True, time="wall", raw_args=False)
    assert options.record is None
    assert options.quiet
    assert not options.include_self
    assert options.buffer == 0
    assert not options.unsorted
    assert options.object.name == "kprobe.bpf.o"


@pytest.mark.parametrize("line", ["replay f", "-q replay f --pid 7", "--pid=7 replay f"])
def test_options_of_replay(line: str) -> None:
    options = replay.read_options(parse(line))
    assert options.file == "f"
    assert options.quiet == ("-q" in line)
    assert options.lines.pids == ((7,) if "7" in line else ())


def test_options_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EBPF_TOOL_LOG", raising=False)
    options = read_options(parse("kprobe vfs_read"))
    assert options.seconds == 0
    assert options.lines == LineOptions(pids=(), show_tid=False, time="ns", raw_args=False)
    assert not options.debug
    assert read_options(parse("kprobe vfs_read -v")).debug
    monkeypatch.setenv("EBPF_TOOL_LOG", "Debug")
    assert read_options(parse("kprobe vfs_read")).debug


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("kprobe f --events=", "--events takes a whole number from 1"),
        ("kprobe f --address=", "--address takes more than ''"),
        ("kprobe f --color=", "--color takes auto, always or never, not ''"),
        ("kprobe f --record=/a/b -o /a/../a/b", "--record and --output name the same file"),
        ("kprobe f --dry-run --json", "--json has no use for --dry-run"),
        ("kprobe f --arg=a:hex --raw-args", "leave it or the format out"),
        ("kretprobe f --arg=ret --ret=hex", "--arg ret is what --ret prints"),
        ("uretprobe a:b --ret=", "--ret takes more than ''"),
        ("kprobe f --fields=pid --show-tid", "name tid among the --fields"),
    ],
)
def test_what_would_be_ignored_is_refused(line: str, told: str) -> None:
    with pytest.raises(usage.UsageError, match=told):
        read_options(parse(line))


@pytest.mark.parametrize("text", ["0", "5", "0.5", ".5", "007", "315360000"])
def test_durations(text: str) -> None:
    assert read_options(parse(f"kprobe vfs_read -d {text}")).seconds == float(text)


REFUSED_NUMBERS = ["''", "soon", "-1", "1e3", "inf", "nan", "5s", "1_0", "٣", "' 5'", "5.", "1,5"]


@pytest.mark.parametrize("text", [*REFUSED_NUMBERS, "9999999999"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(usage.UsageError, match="--duration takes a number from 0 to") as caught:
        read_options(parse(f"kprobe vfs_read --duration={text}"))
    assert repr(shlex.split(text)[0]) in str(caught.value)


@pytest.mark.parametrize("text", [*REFUSED_NUMBERS, "0", "1.5", "+1", "4194305", "9" * 30])
def test_processes_that_are_none(text: str) -> None:
    with pytest.raises(usage.UsageError, match="--pid takes a whole number from 1 to") as caught:
        read_options(parse(f"kprobe vfs_read --pid={text}"))
    assert repr(shlex.split(text)[0]) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096", 4096),
        ("512K", 1 << 19),
        ("16m", 1 << 24),
        ("1MiB", 1 << 20),
        ("4G", 1 << 32),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert read_options(parse(f"kprobe vfs_read --buffer={text}")).buffer == size


@pytest.mark.parametrize("text", [*REFUSED_NUMBERS, "0", "0K", "5G", "4M4", "M", "9" * 30, "1T"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(usage.UsageError, match="--buffer takes a size as 512K or 16M, up to 4G"):
        read_options(parse(f"kprobe vfs_read --buffer={text}"))


@pytest.mark.parametrize("text", ["utc", "NS", "''", "n", "ns,boot"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(usage.UsageError, match="--time takes ns, boot or wall, not"):
        read_options(parse(f"kprobe vfs_read --time={text}"))


def test_a_module_may_begin_with_a_digit() -> None:
    assert read_options(parse("kprobe 8021q:vlan_dev_init")).words == ("8021q:vlan_dev_init",)


@pytest.mark.parametrize(
    "name", ["''", "5", "8021q:5", "'vfs read'", "'vfs\nread'", "'\x1b[31m'", "' '"]
)
def test_names_that_no_function_has(name: str) -> None:
    with pytest.raises(usage.UsageError, match="is not the name of a kernel function") as caught:
        read_options(parse(f"kprobe {name}"))
    assert str(caught.value).isprintable()


def test_a_package_that_is_missing(tmp_path: Path) -> None:
    stand_in = "raise ModuleNotFoundError(\"No module named 'docopt'\", name='docopt')"
    (tmp_path / "docopt.py").write_text(stand_in, encoding="utf-8")
    done = run_tool("kprobe", "vfs_read", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ebpf-tool: docopt-ng is missing: 'pip install docopt-ng'.\n"


# What bin/ebpf-tool's text says, as docopt reads it as a whole.
TAKEN = [
    "kprobe vfs_read",
    "-v kprobe a b -vv --pid=3 -p 4 -d 2.5",
    "kretprobe --tid 7 f --slower=10 --failed -k -u --ret hex",
    "uprobe libc:open64 --arg 0:str --arg=1 --uid root --comm a* --comm b",
    "uretprobe f -n 3 -qo file",
    "tracepoint sched:* --format json --color=never",
    "latency f --by comm -i5 --linear 0:10:1 --plot=f.svg --top 3",
    "count f --sample 1/3 --by comm,pid",
    "list",
    "list a*",
    "doctor",
    "doctor --json",
    "replay f --time=wall -p 3 --pid 4 --strict",
    "schema f s",
    "skeleton f --package .x",
    "--version",
]


@pytest.mark.parametrize("line", TAKEN)
def test_docopt_reads_the_whole_text_as_we_read_the_part_of_the_command(line: str) -> None:
    whole = docopt.docopt(DOC, shlex.split(line), default_help=False)
    del whole["COMMAND"], whole["--help"]
    found = parse(line)
    del found["--help"]
    assert found == whole


@pytest.mark.parametrize(
    ("command", "option", "text"),
    [
        ("count", "--format", "lines, json or folded"),
        ("kprobe", "--format", "lines, json, folded, chrome-trace, parquet or otlp"),
        ("doctor", "--json", "one object"),
        ("count", "--json", "one JSON object per line"),
        ("count", "--by", "several: comm,pid; an argument, too"),
        ("latency", "--by", "several: comm,pid"),
        ("kprobe", "--duration", "how long to trace; 0: until Ctrl-C"),
    ],
)
def test_a_commands_options_are_told_of_it_alone(command: str, option: str, text: str) -> None:
    (found,) = (each for each in synopsis.options(DOC, command) if each.long == option)
    told = synopsis.text_of(DOC, found, command)
    assert told.endswith(text)


@pytest.mark.parametrize(
    ("command", "beginning", "end"),
    [
        ("kprobe", "A FUNCTION of the kernel is a name", "name (openat)."),
        ("uprobe", "A FUNCTION is BINARY:SYMBOL", "that process's program."),
        ("tracepoint", "A FUNCTION is CATEGORY:NAME", "sched:sched_switch."),
        ("count", "A FUNCTION of the kernel is a name", "and count tracepoint:CATEGORY:NAME."),
        ("replay", "", ""),
    ],
)
def test_a_commands_help_says_what_a_function_is(command: str, beginning: str, end: str) -> None:
    text = synopsis.functions_of(DOC, command)
    assert (text[: len(beginning)], text[len(text) - len(end) :]) == (beginning, end)
    assert bool(text) == bool(end)
    assert text in " ".join(synopsis.screen(DOC, command).split())


@pytest.mark.parametrize("command", usage.COMMANDS)
def test_a_commands_help_is_one_screen_and_ends_with_three_examples(command: str) -> None:
    text = synopsis.screen(DOC, command)
    lines = text.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    assert lines[-4] == "Examples:"
    for line in lines[-3:]:
        words = shlex.split(line.split("|")[0].split(">")[0] if "'" not in line else line)
        assert words[:2] == ["ebpf-tool", command]
        assert parse(shlex.join(words[1:]))[command]
    for option in synopsis.options(DOC, command):
        assert set(option.names) & set(re.findall(r"(?<![\w-])--?[a-z-]+", text)), option


@pytest.mark.parametrize("line", ["count --help", "-h count f", "--pid=3 count --hel"])
def test_help_of_a_command(line: str) -> None:
    done = run_tool(*shlex.split(line))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == synopsis.screen(DOC, "count") + "\n"


def test_every_command_is_told_of() -> None:
    assert list(synopsis.commands(DOC)) == list(usage.COMMANDS)
    named = {line.split()[1] for line in synopsis.section(DOC, "Examples")}
    assert named == set(usage.COMMANDS)
    assert {
        option.long for command in usage.COMMANDS for option in synopsis.options(DOC, command)
    } | {
        "--help",
        "--version",
    } == {option.long for option in synopsis.options(DOC)}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("kprobe f --slower 3", "kprobe takes no option --slower"),
        ("latency f --sample 1/3", "latency takes no option --sample"),
        ("latency f --args", "latency takes no option --args"),
        ("count f --plot=f.svg", "count takes no option --plot"),
        ("uprobe f --interval 1", "uprobe takes no option --interval"),
        ("kprobe f -i 1", "kprobe takes no option -i"),
        ("latency", "latency needs the name of a function"),
        ("tracepoint", "as in 'ebpf-tool tracepoint sched:sched_switch'"),
        ("kprobe f --f=x", "unknown option --f"),
    ],
)
def test_options_of_other_commands_are_refused(line: str, told: str) -> None:
    with pytest.raises(usage.UsageError, match=re.escape(told)):
        parse(line)


@pytest.mark.parametrize(
    "line", [line for name in usage.COMMANDS for line in synopsis.examples(DOC, name)]
)
def test_the_examples_are_command_lines(line: str) -> None:
    words = shlex.split(line, comments=False)
    end = min((words.index(sign) for sign in ("|", ">") if sign in words), default=len(words))
    found = usage.parse(DOC, words[1:end])
    command = usage.command_of(found)
    if command in usage.EVENTS:
        assert read_options(found).command == command
    elif command in ("latency", "count"):
        assert read_aggregate(found, times=command == "latency").options.command == command
    elif command == "replay":
        assert replay.read_options(found).file == "unlinks.rec"


def test_docopt_is_told_only_of_what_is_given() -> None:
    text = synopsis.reduced(DOC, "kprobe", ["--pid", "--json"])
    assert text.split() == (
        [
            "Usage:",
            "ebpf-tool",
            "kprobe",
            "FUNCTION...",
            "[--pid=PID]...",
            "[options]",
            "-p,",
            "--pid=PID",
            "--json",
        ]
    )
