"""The arguments of a traced function: which are shown, how they are read and printed."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from .._btf import Kind
from .._shapes import Shape, Shapes
from .._syscalls import OTHERS, SYSCALLS
from ..errors import BpfError
from . import flags
from .fetches import MAX_TEXTS, MAX_VALUES, TEXT_SIZE, Fetch
from .formats import BOOLEAN, DECIMAL, POINTER, TEXT, Format, named
from .places import Parameter, PathError, Place, follow, is_character, machine, place_parameters
from .text import escape
from .usage import UsageError

if TYPE_CHECKING:
    from ..btf import Btf
    from .functions import Function

#: The registers of arguments, by which a place within a function calls them.
_REGISTERS = {"x86_64": ("di", "si", "dx", "cx", "r8", "r9")}
_X_REGISTERS = tuple(f"x{number}" for number in range(8))

#: Behind such a ``const char *`` its length: it is data, not a text with a NUL.
_LENGTH = re.compile(r".*(len|size|count|bytes|nr|sz)(_.*)?|n|l")

#: System calls that declare the names they are given without const.
_NAMES = {"filename", "name", "dev_name", "dir_name", "type"}


class ShownArgument(NamedTuple):
    """An argument, or what it leads to, as events have it.

    Attributes:
        name: as the user typed it: "dfd", "how.flags".
        type: in C.
        value: its index in an event's values.
        text: its index in an event's texts; -1: it is a number.
        format: how it is printed; plain data, for recordings.
    """

    name: str
    type: str
    value: int
    text: int
    format: Format

    def words(self, number: int) -> str:
        """A number as a line has it."""
        return self.format.words(number)

    def number(self, number: int) -> int | bool | str:
        """A number as JSON has it."""
        return self.format.number(number)


class Arguments(NamedTuple):
    """What is shown of a function's calls.

    Attributes:
        shown: in order.
        fetches: of the values, in their order.
        left_out: names that found no room, or cannot be read.
    """

    shown: tuple[ShownArgument, ...]
    fetches: tuple[Fetch, ...]
    left_out: tuple[str, ...] = ()


class Scope(NamedTuple):
    """The parameters of a function, for whoever follows them.

    Attributes:
        label: the function's.
        syscall: the system call's name, or "".
        parameters: with their places; untyped registers where nothing is known.
        typed: whether their types are known.
        shapes: the types.
    """

    label: str
    syscall: str
    parameters: list[Parameter]
    typed: bool
    shapes: Shapes


def scope_of(function: Function, btf: Btf | Shapes | None) -> Scope:
    """A function's parameters.

    Args: btf: the kernel's types, or those of the function's module; None: there are none.
    Raises: BpfError: damaged.

    Of a system call the types are the package's own table's. Within a function
    (``name+offset``) its arguments may be gone: there the registers are called by their own
    names. Without types they are arg0 to arg5.
    """
    shapes = btf if isinstance(btf, Shapes) else Shapes(btf)
    here = machine()
    declared = None
    if not function.offset:
        declared = _declared(function, shapes, here)
    if declared is not None:
        places = place_parameters(declared, shapes, here)
        return Scope(function.label, function.syscall, places, True, shapes)
    registers = _REGISTERS.get(here, _X_REGISTERS)
    if not function.offset:
        registers = tuple(f"arg{number}" for number in range(6))
    unknown = shapes.declare("unsigned long")
    places = place_parameters([(name, unknown) for name in registers], shapes, here)
    return Scope(function.label, function.syscall, places, False, shapes)


def _declared(function: Function, shapes: Shapes, here: str) -> list[tuple[str, int]] | None:
    """Names and types of the parameters; None: they are not known."""
    if function.syscall:
        text = OTHERS.get(here, {}).get(function.syscall, SYSCALLS.get(function.syscall))
        if text is None:
            return None
        pairs = re.findall(r"(\S[^,]*?)(\w+)(?:, |$)", text)
        return [(name, shapes.declare(kind)) for kind, name in pairs]
    if not shapes.has_btf:
        return None
    try:
        parameters = shapes.parameters(function.symbol)
    except BpfError:
        return None
    if parameters and not parameters[-1][1]:  # "..."
        parameters = parameters[:-1]
    return parameters


class _Shower:
    """Collects what is shown, as long as there is room."""

    def __init__(self, scope: Scope, values: int, texts: int) -> None:
        self._scope = scope
        self._values, self._texts = values, texts
        self._used_texts = 0
        self.shown: list[ShownArgument] = []
        self.fetches: list[Fetch] = []
        self.left_out: list[str] = []

    def add(self, name: str, place: Place, form: Format) -> None:
        """Takes one more. Raises: ValueError: no room, or it cannot be read."""
        if len(self.shown) == self._values:
            raise ValueError(f"there is room for {self._values} values")
        text = -1
        if form.base == TEXT:
            if self._used_texts == self._texts:
                raise ValueError(f"there is room for {self._texts} texts")
            fetch = place.text_fetch(self._used_texts + 1)
            text, self._used_texts = self._used_texts, self._used_texts + 1
        else:
            fetch = place.fetch()
        kind = escape(self._scope.shapes.text(place.type))
        self.shown.append(ShownArgument(name, kind, len(self.fetches), text, form))
        self.fetches.append(fetch)

    def add_all(self) -> None:
        """All parameters, structs by their members; what finds no room is left out."""
        for number, parameter in enumerate(self._scope.parameters):
            if parameter.place is None:
                self.left_out.append(parameter.name)
                continue
            self._add_whole(parameter.name, parameter.place, number)

    def _add_whole(self, name: str, place: Place, number: int) -> None:
        shapes = self._scope.shapes
        if place.shape.kind == Kind.STRUCT:
            members = shapes.members(place.shape)
            for member in members:
                shape = shapes.shape(member.type)
                inner = place._replace(
                    shape=shape,
                    type=member.type,
                    offset=place.offset + member.bit_offset // 8,
                    bit=member.bit_offset % 8 if member.bits else 0,
                    bits=member.bits,
                    owner=place.shape.name,
                    member=member.name,
                )
                alone = len(members) == 1 or not member.name
                self._add_whole(name if alone else f"{name}.{escape(member.name)}", inner, number)
            return
        if place.shape.kind == Kind.UNION and place.shape.size in (1, 2, 4, 8):
            name_of_size = {1: "unsigned char", 2: "umode_t", 4: "unsigned int"}
            kind = shapes.declare(name_of_size.get(place.shape.size, "unsigned long"))
            union = place._replace(shape=shapes.shape(kind)._replace(typedefs=()))
            form = Format(POINTER, union.shape.size)
            self._try(name, union, form)
            return
        wanted = default_format(place, self._scope, self._scope.parameters[number].name, number)
        if wanted is None:
            self.left_out.append(name)
        elif wanted.base == TEXT and self._used_texts == self._texts:
            self._try(name, place, Format(POINTER, 8))
        else:
            self._try(name, place, wanted)

    def _try(self, name: str, place: Place, form: Format) -> None:
        try:
            self.add(name, place, form)
        except ValueError:
            self.left_out.append(name)


def default_format(place: Place, scope: Scope, name: str, number: int = -1) -> Format | None:
    """How a value is printed where nothing else is asked for; None: it is no scalar, no text.

    Args: name, number: the parameter's; number -1: it is not a parameter itself.
    """
    shape, shapes = place.shape, scope.shapes
    if text_kind(place, shapes) == "array":
        return Format(TEXT, limit=shape.length)
    if shape.kind == Kind.PTR:
        if _is_text(place, scope, number):
            return Format(TEXT)
        return Format(POINTER, 8)
    if shape.is_bool:
        return Format(BOOLEAN, shape.size)
    if shape.kind in (Kind.ENUM, Kind.ENUM64):
        constants = shapes.constants(shape)
        return Format(DECIMAL, shape.size, shape.signed, named(constants, shape.size))
    if shape.kind != Kind.INT:
        return None
    if place.owner:
        table = flags.table_of_member(place.owner, place.member, shape.typedefs)
    else:
        table = flags.table_of_argument(scope.syscall, name, shape.typedefs)
    found = flags.table_format(table, machine(), shape.size, shape.signed) if table else None
    if found is not None:
        return found
    if not scope.typed and not place.owner:
        return Format(POINTER, 8)
    return Format(DECIMAL, shape.size, shape.signed)


def text_kind(place: Place, shapes: Shapes) -> str:
    """ "pointer" or "array" of characters, "const" pointer to such; "": neither."""
    shape = place.shape
    if shape.kind not in (Kind.PTR, Kind.ARRAY) or not shape.target:
        return ""
    target = shapes.shape(shape.target)
    if not is_character(target) or "char" not in target.name:
        return ""
    if target.typedefs:  # u8 *, uint8_t *: bytes
        return ""
    if shape.kind == Kind.ARRAY:
        return "array" if target.name == "char" else ""
    return "const" if target.is_const else "pointer"


def _is_text(place: Place, scope: Scope, number: int) -> bool:
    """Whether a pointer is shown as a text: ``const char *``, and no data of a given length."""
    kind = text_kind(place, scope.shapes)
    if number < 0:
        return kind == "const"
    parameters = scope.parameters
    if kind == "pointer":
        kind = "const" if scope.syscall and parameters[number].name in _NAMES else ""
    if kind != "const":
        return False
    following = parameters[number + 1] if number + 1 < len(parameters) else None
    if following is None or following.place is None:
        return True
    return following.place.shape.kind != Kind.INT or not _LENGTH.fullmatch(following.name)


def arguments_of(
    function: Function,
    btf: Btf | Shapes | None,
    *,
    all_of: bool = False,
    specs: list[str] | tuple[str, ...] = (),
    values: int = MAX_VALUES,
    texts: int = MAX_TEXTS,
) -> Arguments:
    """What is shown of a function's calls.

    Args:
        btf: the kernel's types, or those of the function's module; None: there are none.
        all_of: all its arguments (--args).
        specs: these (--arg NAME[.member][:FORMAT]), before all of them. Neither: the first.
        values, texts: room in an event.

    Raises: UsageError: a spec that cannot be met; MissingArgument: by this function.
    """
    scope = scope_of(function, btf)
    shower = _Shower(scope, values, texts)
    for spec in specs:
        _add_spec(spec, scope, shower)
    if all_of:
        shower.add_all()
    elif not specs:
        _add_first(scope, shower)
    return Arguments(tuple(shower.shown), tuple(shower.fetches), tuple(shower.left_out))


class MissingArgument(UsageError):
    """The function has no such argument; another of the trace may have it."""


def _add_spec(spec: str, scope: Scope, shower: _Shower) -> None:
    path, colon, wanted = spec.partition(":")
    try:
        place = follow(path, scope.parameters, scope.shapes)
    except PathError as error:
        raise MissingArgument(f"--arg {escape(spec)}: {scope.label}: {error}") from None
    try:
        shower.add(escape(path), place, _format_of(place, scope, path, wanted if colon else None))
    except ValueError as error:
        raise UsageError(f"--arg {escape(spec)}: {scope.label}: {error}") from None


def _format_of(place: Place, scope: Scope, path: str, wanted: str | None) -> Format:
    """The format of a spec. Raises: ValueError."""
    shape, shapes = place.shape, scope.shapes
    if wanted == "str":
        if text_kind(place, shapes) == "array":
            return Format(TEXT, limit=shape.length)
        if shape.kind == Kind.PTR:
            return Format(TEXT)
        if not scope.typed and shape.size == 8:
            raise ValueError("a register of unknown type is no text")
        raise ValueError(f"{escape(shapes.text(place.type))} is no text")
    names = [parameter.name for parameter in scope.parameters]
    number = names.index(path) if path in names else -1
    form = default_format(place, scope, path if number >= 0 else "", number)
    if form is None or (form.base == TEXT and wanted and shape.kind != Kind.PTR):
        raise ValueError(_why_no_value(place, shapes))
    if wanted is None:
        return form
    signed = shape.signed and shape.kind != Kind.PTR
    found = flags.table_format(wanted, machine(), shape.size, signed)
    if found is None:
        found = _enum_format(wanted, shape, shapes)
    if found is None:
        from .places import nearest

        known = ["str", "dec", "hex", "oct", *flags.table_names()]
        raise ValueError(
            f"there is no format {escape(wanted)!r}{nearest(wanted, known)}; there is: "
            f"{', '.join(known)}, and the names of the kernel's enums"
        )
    return found


def _enum_format(name: str, shape: Shape, shapes: Shapes) -> Format | None:
    """The constants of one of the kernel's enums; None: there is none of this name."""
    if not shapes.has_btf:
        return None
    try:
        enum = shapes.shape(shapes.find(f"enum {name}"))
    except BpfError:
        return None
    constants = shapes.constants(enum)
    return Format(DECIMAL, shape.size, shape.signed, named(constants, shape.size))


def _why_no_value(place: Place, shapes: Shapes) -> str:
    text = escape(shapes.text(place.type))
    if place.shape.kind in (Kind.STRUCT, Kind.UNION):
        names = [escape(member.name) for member in shapes.named_members(place.shape)]
        some = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        return f"it is a {text}: name a member of it ({some})"
    if place.shape.kind == Kind.ARRAY:
        return f"it is an array ({text}): name an element, as [0]"
    return f"a {text} cannot be shown"


def _add_first(scope: Scope, shower: _Shower) -> None:
    """The first argument, as the plain program's line has it: a number by its type."""
    if not scope.parameters:
        return
    parameter = scope.parameters[0]
    if parameter.place is None:
        shower.left_out.append(parameter.name)
        return
    place = parameter.place
    if place.shape.kind in (Kind.STRUCT, Kind.UNION):
        shower.add_all()
        del shower.shown[1:], shower.fetches[1:]
        return
    shower.add(parameter.name, place, _plain_format(place.shape, scope.typed))


def _plain_format(shape: Shape, typed: bool) -> Format:
    if not typed:
        return Format(DECIMAL, 8)
    if shape.kind == Kind.PTR:
        return Format(POINTER, 8)
    if shape.is_bool:
        return Format(BOOLEAN, shape.size)
    return Format(DECIMAL, shape.size, shape.signed)


def text_of(argument: ShownArgument, event: Any) -> str | None:
    """A text of an event, as it was read; None: the pointer was NULL.

    Args: event: with ``values`` and ``texts``; that it was readable is looked at before.
    """
    if not event.values[argument.value]:
        return None
    text: str = event.texts[argument.text]
    limit = argument.format.limit
    if limit:
        encoded = text.encode("utf-8", "surrogateescape")[:limit]
        text = encoded.decode("utf-8", "surrogateescape")
    return text


def is_readable(argument: ShownArgument, event: Any) -> bool:
    """Whether the value could be read: a page may not have been there."""
    return not event.unreadable >> argument.value & 1


def is_cut(argument: ShownArgument, event: Any) -> bool:
    """Whether a text was longer than what an event has room for."""
    return argument.text >= 0 and bool(event.values[argument.value] == TEXT_SIZE)


def format_value(argument: ShownArgument, event: Any) -> str:
    """An argument of an event as a line has it.

    Args: event: with ``values``, ``texts`` and ``unreadable``.
    """
    if not is_readable(argument, event):
        return "<unreadable>"
    if argument.text < 0:
        return argument.words(event.values[argument.value])
    text = text_of(argument, event)
    if text is None:
        return "NULL"
    quoted = escape(text).replace('"', '\\"')
    return f'"{quoted}"{"..." if is_cut(argument, event) else ""}'


def json_value(argument: ShownArgument, event: Any) -> int | bool | str | None:
    """An argument of an event as JSON has it; a NULL text, or what is unreadable, is None."""
    if not is_readable(argument, event):
        return None
    if argument.text >= 0:
        return text_of(argument, event)
    return argument.number(event.values[argument.value])


class KernelTypes:
    """The types of the kernel and its modules, opened when the first function needs them.

    Args: many: functions are looked up so often that an index of them pays.
    """

    def __init__(self, *, many: bool = False) -> None:
        self._many = many
        self._stack = contextlib.ExitStack()
        self._opened: dict[str, Shapes] = {}
        self._kernel: Btf | None = None

    def __enter__(self) -> KernelTypes:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def of(self, function: Function) -> Shapes:
        """The types that a function's are among; without BTF only those of system calls."""
        if function.module not in self._opened:
            shapes = Shapes(self._open(function.module))
            if self._many and shapes.has_btf:
                shapes.index_functions()
            self._opened[function.module] = shapes
        return self._opened[function.module]

    def _open(self, module: str) -> Btf | None:
        from ..btf import Btf

        try:
            if self._kernel is None:
                self._kernel = self._stack.enter_context(Btf.kernel())
            if module:
                return self._stack.enter_context(Btf.module(module, self._kernel))
        except BpfError:
            return None
        return self._kernel
