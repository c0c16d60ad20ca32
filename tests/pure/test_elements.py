"""Keys and values of maps: what fits comes back as it was, all else is refused."""

from __future__ import annotations

import ipaddress
import struct
import sys
from enum import IntEnum
from typing import Any

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libbpf_ctypes import DecodeError, Schema, elements, map_elements
from libbpf_ctypes.enums import MapType
from libbpf_ctypes.map_types import key_type, named, value_type

SIZES = st.sampled_from([1, 2, 4, 8, 16])


def limits(size: int, signed: bool) -> tuple[int, int]:
    bits = 8 * size - signed
    return (-(1 << bits) if signed else 0), (1 << bits) - 1


@given(st.data(), SIZES, st.booleans(), st.sampled_from(["little", "big"]))
def test_integers_in_range_come_back(data: Any, size: int, signed: bool, order: Any) -> None:
    low, high = limits(size, signed)
    value = data.draw(st.integers(low, high))
    kind = elements.integer(size, signed, order)
    assert kind.encode(value) == value.to_bytes(size, order, signed=signed)
    assert kind.decode(kind.encode(value)) == value


@given(st.data(), SIZES, st.booleans())
def test_integers_out_of_range_are_refused(data: Any, size: int, signed: bool) -> None:
    low, high = limits(size, signed)
    value = data.draw(st.integers(max_value=low - 1) | st.integers(min_value=high + 1))
    with pytest.raises(OverflowError, match=f"{value} is out of range"):
        elements.integer(size, signed).encode(value)


@pytest.mark.parametrize("value", [1.0, "1", None, [1]])
def test_what_is_no_integer_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        elements.integer(4).encode(value)


EVERY = [
    elements.raw_bytes(5),
    elements.integer(4),
    elements.integer(16, True),
    elements.boolean(),
    elements.floating(8),
    elements.text(16, whole=True),
    elements.address(ipaddress.IPv4Address, 4),
    map_elements.prefix(8),
    map_elements.descriptor(),
    map_elements.with_program(8, "device"),
    map_elements.stack(24),
    elements.record(Schema(construct.Struct("a" / construct.Int32un)), 4),
]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.name)
@given(st.data())
def test_bytes_are_taken_in_their_exact_size_alone(kind: Any, data: Any) -> None:
    raw = data.draw(st.binary(max_size=2 * kind.size))
    for buffer in (raw, bytearray(raw), memoryview(raw)):
        if len(raw) == kind.size:
            assert kind.encode(buffer) == raw
        else:
            with pytest.raises(ValueError, match=f"{len(raw)} bytes do not fit its {kind.size}"):
                kind.encode(buffer)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.name)
def test_other_objects_are_refused(kind: Any) -> None:
    for value in (None, object(), {}, [b"x"]):
        with pytest.raises((TypeError, ValueError)):
            kind.encode(value)


@given(st.floats(allow_nan=False))
def test_floats(value: float) -> None:
    kind = elements.floating(8)
    assert kind.decode(kind.encode(value)) == value


def test_a_float_that_a_c_float_cannot_hold() -> None:
    with pytest.raises(OverflowError):
        elements.floating(4).encode(1e300)
    with pytest.raises(ValueError, match="4 or 8 bytes"):
        elements.floating(2)


def test_bools() -> None:
    kind = elements.boolean()
    assert [kind.decode(kind.encode(value)) for value in (True, False, 1, 0)] == [1, 0, 1, 0]
    assert kind.decode(b"\2") is True
    with pytest.raises(TypeError):
        kind.encode(2)


@given(st.binary(min_size=6, max_size=6))
def test_a_text_key_is_found_again_by_the_text(raw: bytes) -> None:
    kind = elements.text(6, whole=True)
    assert kind.encode(kind.decode(raw)) == raw


def test_a_text_value_ends_at_its_nul() -> None:
    kind = elements.text(8, whole=False)
    assert kind.decode(b"ab\0stale") == "ab"
    assert kind.encode("ab") == b"ab" + bytes(6)
    with pytest.raises(ValueError, match="9 bytes of text do not fit its 8"):
        kind.encode("123456789")


def test_an_enum_and_numbers_without_a_name() -> None:
    class State(IntEnum):
        LOST = -1
        FOUND = 1

    kind = named(State, 4, key=False)
    assert kind.decode(kind.encode(State.LOST)) is State.LOST
    assert kind.decode(kind.encode(1)) is State.FOUND
    assert kind.decode(kind.encode(7)) == 7
    with pytest.raises(OverflowError):
        kind.encode(1 << 31)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_networks_of_a_trie(address: ipaddress.IPv4Address, length: int) -> None:
    network = ipaddress.IPv4Network((address, length), strict=False)
    kind = map_elements.prefix(8, network=ipaddress.IPv4Network)
    raw = struct.pack("=I", length) + network.network_address.packed
    assert kind.encode(network) == raw
    assert kind.encode(str(network)) == raw
    assert kind.encode((length, network.network_address.packed)) == raw
    assert kind.decode(raw) == network
    assert map_elements.prefix(8).decode(raw) == (length, network.network_address.packed)
    assert kind.encode(address) == struct.pack("=I", 32) + address.packed


def test_prefixes_that_do_not_fit_a_trie() -> None:
    kind = map_elements.prefix(8)
    with pytest.raises(ValueError, match="16 bytes of address do not fit the trie's 4"):
        kind.encode(ipaddress.ip_network("fe80::/10"))
    for length in (-1, 33):
        with pytest.raises(OverflowError, match="prefix length"):
            kind.encode((length, bytes(4)))
    with pytest.raises(ValueError, match="at least 5 bytes"):
        map_elements.prefix(4)


def test_addresses() -> None:
    kind = named(ipaddress.IPv6Address, 16, key=True)
    assert kind.decode(kind.encode("::1")) == ipaddress.IPv6Address("::1")
    with pytest.raises(TypeError):
        kind.encode(ipaddress.IPv4Address("127.0.0.1"))
    with pytest.raises(TypeError):  # in which byte order?
        kind.encode(1)


@given(st.integers(1, 20), st.integers(1, 9), st.data())
def test_values_of_cpus_lie_at_multiples_of_8_bytes(size: int, cpus: int, data: Any) -> None:
    kind = map_elements.per_cpu(elements.raw_bytes(size), cpus)
    stride = -(-size // 8) * 8
    assert kind.size == stride * cpus
    values = [data.draw(st.binary(min_size=size, max_size=size)) for _ in range(cpus)]
    raw = kind.encode(values)
    assert len(raw) == kind.size
    assert [raw[at : at + size] for at in range(0, len(raw), stride)] == values
    stale = b"".join(value + b"\xff" * (stride - size) for value in values)
    assert kind.decode(stale) == values
    assert kind.decode(kind.encode(values[0])) == values[:1] * cpus
    with pytest.raises(ValueError, match=f"{cpus + 1} values came for {cpus} possible CPUs"):
        kind.encode([*values, values[0]])


def test_records_with_padding_are_written_with_zeros() -> None:
    declaration = construct.Struct(
        "kind" / construct.Int8un, construct.Padding(7), "number" / construct.Int64un
    )
    kind = named(declaration, 16, key=False)
    raw = kind.encode({"kind": 1, "number": 2})
    assert raw == struct.pack("=B7xQ", 1, 2)
    record = kind.decode(b"\1" + b"\xff" * 7 + raw[8:])
    assert (record.kind, record.number) == (1, 2)
    assert kind.encode(record) == raw
    with pytest.raises(DecodeError, match="has no number"):
        kind.encode({"kind": 1})
    with pytest.raises(ValueError, match="16 bytes, and the map's have 12"):
        named(declaration, 12, key=False)


def test_an_array_is_a_tuple() -> None:
    schema: Schema[Any] = Schema(construct.Struct("items" / construct.Array(3, construct.Int16un)))
    kind = elements.array(schema, 6)
    assert kind.decode(kind.encode([1, 2, 3])) == (1, 2, 3)
    with pytest.raises(DecodeError):
        kind.encode([1, 2])


def test_file_descriptors() -> None:
    kind = map_elements.descriptor()
    with open("/dev/null") as file:  # noqa: PTH123  # its descriptor is what matters
        assert kind.encode(file) == file.fileno().to_bytes(4, sys.byteorder)
    assert kind.encode(5) == (5).to_bytes(4, sys.byteorder)
    with pytest.raises(OverflowError):
        kind.encode(-1)
    with pytest.raises(TypeError, match="has no file descriptor"):
        kind.encode(True)


def test_devices_and_their_programs() -> None:
    small, large = map_elements.with_program(4, "device"), map_elements.with_program(8, "device")
    assert small.decode(small.encode(3)) == 3
    assert large.encode(3) == struct.pack("=Ii", 3, -1), "0 would be a descriptor"
    assert large.encode((3, 7)) == struct.pack("=Ii", 3, 7)
    assert large.decode(struct.pack("=II", 3, 9)) == (3, 9)
    with pytest.raises(ValueError, match="no room for a program"):
        small.encode((3, 7))


def test_a_stack_ends_at_its_first_zero() -> None:
    kind = map_elements.stack(32)
    assert kind.decode(struct.pack("=4Q", 3, 2, 1, 0)) == (3, 2, 1)
    assert kind.decode(struct.pack("=4Q", 3, 2, 1, 9)) == (3, 2, 1, 9)


@pytest.mark.parametrize(
    ("spec", "name", "size"),
    [
        *(("u8", "u8", 1), ("s128", "s128", 16), ("f32", "f32", 4), ("bool", "bool", 1)),
        ("fd", "file descriptor", 4),
        ("be16", f"{'big-endian ' if sys.byteorder == 'little' else ''}u16", 2),
    ],
)
def test_types_by_their_words(spec: str, name: str, size: int) -> None:
    kind = named(spec, None, key=True)
    assert (kind.name, kind.size) == (name, size)
    with pytest.raises(ValueError, match=f"and the map's have {size + 1}"):
        named(spec, size + 1, key=True)


def test_a_port_in_network_byte_order() -> None:
    assert named("be16", 2, key=True).encode(443) == b"\x01\xbb"


@pytest.mark.parametrize("spec", ["u7", "u24", "be8", "", "int", complex, 5, object()])
def test_what_is_no_type(spec: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        named(spec, 4, key=True)
    with pytest.raises((ValueError, TypeError)):
        named(spec, None, key=True)


@pytest.mark.parametrize("spec", [int, bytes, float, str])
def test_types_without_a_size_of_their_own(spec: type) -> None:
    assert named(spec, 4, key=True).size == 4
    with pytest.raises(ValueError, match="say how many bytes"):
        named(spec, None, key=True)


def test_a_map_type_of_the_future_has_bytes() -> None:
    kind = MapType(1000)
    assert kind.name == "UNKNOWN_1000"
    assert key_type(kind, 4, None).name == "bytes"
    assert value_type(kind, 4, 0, None, "").name == "bytes"
    with pytest.raises(TypeError, match="it takes 4 bytes, not int"):
        key_type(kind, 4, None).encode(1)
