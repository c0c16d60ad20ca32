"""Where instructions begin: a breakpoint in the midst of one makes another one of it.

The kernel looks whether an instruction could begin where a uprobe goes, not whether one does.
Source for x86_64: Intel's Software Developer's Manual, volume 2, appendix A, its opcode maps.
"""

from __future__ import annotations

from collections.abc import Iterator

_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
_OPERAND_SIZE, _ADDRESS_SIZE = 0x66, 0x67


def _bytes(*ranges: int | tuple[int, int]) -> frozenset[int]:
    """The bytes of these ranges, whose ends are among them."""
    pairs = [each if isinstance(each, tuple) else (each, each) for each in ranges]
    return frozenset(byte for first, last in pairs for byte in range(first, last + 1))


_ARITHMETIC = range(0, 0x40, 8)  # add, or, adc, sbb, and, sub, xor, cmp
#: One byte: no such instruction in 64-bit mode.
_INVALID = _bytes(*(row + at for row in _ARITHMETIC for at in (6, 7)), (0x60, 0x61), 0x82, 0x9A,
                  0xCE, (0xD4, 0xD6), 0xEA)  # fmt: skip
#: One byte: with a ModRM byte.
_MODRM = _bytes(*((row, row + 3) for row in _ARITHMETIC), 0x63, 0x69, 0x6B, (0x80, 0x8F),
                (0xC0, 0xC1), (0xC6, 0xC7), (0xD0, 0xD3), (0xD8, 0xDF), (0xF6, 0xF7),
                (0xFE, 0xFF))  # fmt: skip
#: One byte: with a constant of one byte; with one of the operand's size, but no more than 4 bytes.
_BYTE = _bytes(*(row + 4 for row in _ARITHMETIC), 0x6A, 0x6B, (0x70, 0x7F), 0x80, 0x83, 0xA8,
               (0xB0, 0xB7), 0xC0, 0xC1, 0xC6, 0xCD, (0xE0, 0xE7), 0xEB)  # fmt: skip
_WORD = _bytes(*(row + 5 for row in _ARITHMETIC), 0x68, 0x69, 0x81, 0xA9, 0xC7)
_OTHER = {0xC2: 2, 0xC8: 3, 0xCA: 2, 0xE8: 4, 0xE9: 4}
#: Behind 0F: no such instruction; without ModRM; with a constant of one byte, and of four.
_INVALID_0F = _bytes(0x04, 0x0A, 0x0C, (0x24, 0x27), 0x36, 0x39, (0x3B, 0x3F), (0xA6, 0xA7))
_PLAIN_0F = _bytes((0x05, 0x09), 0x0B, 0x0E, (0x30, 0x37), 0x77, (0x80, 0x8F), (0xA0, 0xA2),
                   (0xA8, 0xAA), (0xC8, 0xCF))  # fmt: skip
_BYTE_0F = _bytes(0x0F, (0x70, 0x73), 0xA4, 0xAC, 0xBA, 0xC2, (0xC4, 0xC6))
_WORD_0F = _bytes((0x80, 0x8F))


def beginnings(code: bytes, machine: str) -> Iterator[int]:
    """The offsets of a function's instructions, from its first on, as far as they are known.

    Args: code: the function. machine: as os.uname() has it.
    """
    at = 0
    while at < len(code):
        yield at
        try:
            at += _length(code, at) if machine == "x86_64" else 4
        except (ValueError, IndexError):  # unknown, or cut off
            return


def _length(code: bytes, start: int) -> int:
    """Bytes of the instruction of x86_64 that begins there. Raises: ValueError, IndexError."""
    at = start
    prefixes = set()
    while code[at] in _PREFIXES:
        prefixes.add(code[at])
        at += 1
    wide = False
    if code[at] & 0xF0 == 0x40:  # REX
        wide = bool(code[at] & 8)
        at += 1
    opcode = code[at]
    if opcode in (0xC4, 0xC5, 0x62):  # VEX, EVEX
        return _vector(code, at) - start
    if opcode == 0x0F:
        return _two_bytes(code, at + 1) - start
    if opcode in _INVALID:
        raise ValueError
    at += 1
    modrm = code[at] if opcode in _MODRM else 0
    if opcode == 0x8F and modrm & 0x38:  # pop, or AMD's XOP, which is as good as gone
        raise ValueError
    end = _operand(code, at) if opcode in _MODRM else at
    word = 2 if _OPERAND_SIZE in prefixes and not wide else 4
    if opcode in _BYTE:
        end += 1
    elif opcode in _WORD:
        end += word
    elif opcode & 0xF8 == 0xB8:  # mov to a register: all its bytes
        end += 8 if wide else word
    elif opcode & 0xFC == 0xA0:
        end += 4 if _ADDRESS_SIZE in prefixes else 8
    elif opcode in (0xF6, 0xF7) and not modrm & 0x30:  # test
        end += 1 if opcode == 0xF6 else word
    return end + _OTHER.get(opcode, 0) - start


def _two_bytes(code: bytes, at: int) -> int:
    """The end of an instruction that 0F begins. Args: at: behind that."""
    opcode = code[at]
    if opcode == 0x38:
        return _operand(code, at + 2)
    if opcode == 0x3A:
        return _operand(code, at + 2) + 1
    if opcode in _INVALID_0F:
        raise ValueError
    end = at + 1 if opcode in _PLAIN_0F else _operand(code, at + 1)
    return end + (opcode in _BYTE_0F) + 4 * (opcode in _WORD_0F)


def _vector(code: bytes, at: int) -> int:
    """The end of an instruction that VEX or EVEX begins. Args: at: of that byte."""
    which, opcodes = 1, at + 2
    if code[at] == 0xC4:
        which, opcodes = code[at + 1] & 31, at + 3
    elif code[at] == 0x62:
        which, opcodes = code[at + 1] & 7, at + 4
    opcode = code[opcodes]
    if which not in (1, 2, 3, 5, 6):
        raise ValueError
    if which == 1 and opcode == 0x77:  # vzeroupper
        return opcodes + 1
    constant = which == 3 or (which == 1 and opcode in _BYTE_0F)
    return _operand(code, opcodes + 1) + constant


def _operand(code: bytes, at: int) -> int:
    """The end of a ModRM byte with what belongs to it: SIB, displacement."""
    modrm = code[at]
    mode, register = modrm >> 6, modrm & 7
    end = at + 1
    if mode == 3:
        return end
    if register == 4:
        if not mode and code[end] & 7 == 5:
            return end + 5
        end += 1
    elif register == 5 and not mode:
        return end + 4
    return end + (0, 1, 4)[mode]
