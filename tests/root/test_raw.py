"""Plain libbpf by libbpf_ctypes.raw: calls, structs, callbacks and errors on the real kernel."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator

import pytest

from libbpf_ctypes import KPROBE_OBJECT, BpfError, raw

_SIGNED = 1  # BTF_INT_SIGNED, a macro


@pytest.fixture
def counts() -> Iterator[int]:
    """A hash map of its own, as README makes one."""
    opts = raw.bpf_map_create_opts(map_flags=raw.BPF_F_NO_PREALLOC)
    fd = raw.bpf_map_create(raw.BPF_MAP_TYPE_HASH, b"counts", 4, 8, 1024, opts)
    yield fd
    os.close(fd)


def test_values_go_in_and_come_out(counts: int) -> None:
    value = ctypes.c_uint64(7)
    raw.bpf_map_update_elem(counts, b"abcd", ctypes.byref(value), raw.BPF_NOEXIST)
    found = ctypes.create_string_buffer(8)
    raw.bpf_map_lookup_elem(counts, b"abcd", found)
    assert found.raw == bytes(value)
    with pytest.raises(BpfError) as told:
        raw.bpf_map_update_elem(counts, b"abcd", ctypes.byref(value), raw.BPF_NOEXIST)
    assert (told.value.errno, told.value.operation) == (errno.EEXIST, "bpf_map_update_elem")
    with pytest.raises(BpfError) as told:
        raw.bpf_map_lookup_elem(counts, b"none", found)
    assert told.value.errno == errno.ENOENT


def test_a_struct_is_filled(counts: int) -> None:
    info, size = raw.bpf_map_info(), ctypes.c_uint32(ctypes.sizeof(raw.bpf_map_info))
    raw.bpf_obj_get_info_by_fd(counts, ctypes.byref(info), ctypes.byref(size))
    assert (info.name, info.key_size, info.value_size) == (b"counts", 4, 8)
    assert (info.type, info.max_entries) == (raw.BPF_MAP_TYPE_HASH, 1024)
    assert info.map_flags == raw.BPF_F_NO_PREALLOC


def test_an_object_from_open_to_close() -> None:
    obj = raw.bpf_object__open(os.fsencode(KPROBE_OBJECT))
    try:
        raw.bpf_object__load(obj)
        program = raw.bpf_object__find_program_by_name(obj, b"syscall_kprobe")
        assert raw.bpf_program__fd(program) > 0
        assert raw.bpf_program__type(program) == raw.BPF_PROG_TYPE_KPROBE
        names = []
        while program:
            names.append(raw.bpf_program__name(program))
            program = raw.bpf_object__next_program(obj, program)
        assert names.count(b"syscall_kprobe") == 1
        assert len(set(names)) == len(names) > 1
        with pytest.raises(BpfError) as told:
            raw.bpf_object__find_map_by_name(obj, b"no")
        assert told.value.errno == errno.ENOENT
    finally:
        raw.bpf_object__close(obj)


def test_a_callback_is_called_with_its_arguments() -> None:
    seen = []

    def take(context: int, template: bytes, _arguments: int) -> None:
        seen.append((context, template))

    callback = raw.btf_dump_printf_fn_t(take)
    btf = raw.btf__new_empty()
    try:
        raw.btf__add_int(btf, b"number", 4, _SIGNED)
        raw.btf__add_struct(btf, b"pair", 8)
        raw.btf__add_field(btf, b"first", 1, 0, 0)
        dump = raw.btf_dump__new(btf, callback, 4711, None)
        raw.btf_dump__dump_type(dump, 2)
        raw.btf_dump__free(dump)
    finally:
        raw.btf__free(btf)
    assert len(seen) > 1
    assert {context for context, _ in seen} == {4711}
    assert all(isinstance(template, bytes) for _, template in seen)


def test_probes_answer_yes_and_no() -> None:
    assert raw.libbpf_probe_bpf_prog_type(raw.BPF_PROG_TYPE_KPROBE, None) == 1
    assert raw.libbpf_probe_bpf_map_type(raw.BPF_MAP_TYPE_HASH, None) == 1
    with pytest.raises(BpfError, match="libbpf_probe_bpf_map_type"):
        raw.libbpf_probe_bpf_map_type(9999, None)


def test_answers_and_errors_of_functions_with_ways_of_their_own() -> None:
    obj = raw.bpf_object__open(os.fsencode(KPROBE_OBJECT))
    try:
        events = raw.bpf_object__find_map_by_name(obj, b"EVENTS")
        assert raw.bpf_map__get_pin_path(events) is None
        assert raw.bpf_map__fd(events) == -1
        assert raw.bpf_object__find_map_fd_by_name(obj, b"EVENTS") == -1
        with pytest.raises(BpfError) as told:
            raw.bpf_object__find_map_fd_by_name(obj, b"no")
        assert told.value.errno == errno.EINVAL
        with pytest.raises(BpfError, match="btf__align_of"):
            raw.btf__align_of(raw.bpf_object__btf(obj), 0)
    finally:
        raw.bpf_object__close(obj)


def test_null_is_an_answer_or_an_error() -> None:
    """What a foreign map has next, or a plain map inside, is no end of a list: it is refused."""
    one = raw.bpf_object__open(os.fsencode(KPROBE_OBJECT))
    other = raw.bpf_object__open(os.fsencode(KPROBE_OBJECT))
    try:
        events = raw.bpf_object__find_map_by_name(one, b"EVENTS")
        program = raw.bpf_object__find_program_by_name(one, b"syscall_kprobe")
        last = events
        while following := raw.bpf_object__next_map(one, last):
            last = following
        assert not raw.bpf_object__prev_program(one, program)
        for function, part in (
            (raw.bpf_object__next_map, events),
            (raw.bpf_object__prev_map, last),
            (raw.bpf_object__next_program, program),
            (raw.bpf_object__prev_program, program),
        ):
            with pytest.raises(BpfError) as told:
                function(other, part)
            assert told.value.errno == errno.EINVAL
        with pytest.raises(BpfError) as told:
            raw.bpf_map__inner_map(events)
        assert told.value.errno == errno.EINVAL
        for _ in range(2):  # the errno of the failure before is no reason
            assert not raw.bpf_object__next_map(one, last)
    finally:
        raw.bpf_object__close(one)
        raw.bpf_object__close(other)


def test_a_number_is_no_pointer() -> None:
    """C would take it for an address."""
    for wrong in (3, b"object", ctypes.c_void_p(3)):
        with pytest.raises(ctypes.ArgumentError, match=r"no struct bpf_object \*"):
            raw.bpf_object__name(wrong)
