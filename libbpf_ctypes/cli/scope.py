"""What is known of what is traced: parameters and where they are, fields, the return value."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, NamedTuple

from .._btf import Kind
from .._shapes import Shapes
from .._syscalls import OTHERS, SYSCALLS
from ..errors import BpfError
from .fetches import RETURN_VALUE
from .formats import Name
from .functions import Function
from .places import SCALARS, Parameter, Place, is_character, machine, place_parameters
from .tracepoints import Probed, Tracepoint
from .usage import UsageError
from .user_functions import UserFunction

if TYPE_CHECKING:
    from ..btf import Btf

#: The registers of arguments, by which a place within a function calls them.
_REGISTERS = {"x86_64": ("di", "si", "dx", "cx", "r8", "r9")}
_X_REGISTERS = tuple(f"x{number}" for number in range(8))

_REGISTER = 8  # bytes

#: System calls that return an address.
_MAPPERS = ("brk", "mmap", "mremap", "shmat")


class MissingArgument(UsageError):
    """The function has no such argument, or it has no such member: another one may have it."""


class Scope(NamedTuple):
    """The parameters of a function, or the fields of a tracepoint, for whoever follows them.

    Attributes:
        label: the function's.
        syscall: the system call's name, or "".
        parameters: with their places; untyped registers where nothing is known.
        typed: whether their types are known.
        shapes: the types.
        returned: the return value; None: there is none, or it is not in one register.
        in_kernel: errors are returned as the kernel does: -ENOENT, an ERR_PTR.
        words: names of values, by the parameter.
    """

    label: str
    syscall: str
    parameters: list[Parameter]
    typed: bool
    shapes: Shapes
    returned: Place | None = None
    in_kernel: bool = True
    words: dict[str, tuple[Name, ...]] = {}  # noqa: RUF012


def scope_of(function: Probed, btf: Btf | Shapes | None) -> Scope:
    """A function's parameters, or a tracepoint's fields.

    Args: btf: the kernel's types, or those of the function's module; None: there are none.
    Raises: BpfError: damaged.

    Of a system call the types are the package's own table's. Within a function
    (``name+offset``) its arguments may be gone: there the registers are called by their own
    names. Without types they are arg0 to arg5.
    """
    shapes = btf if isinstance(btf, Shapes) else Shapes(btf)
    if isinstance(function, Tracepoint):
        return _record_scope(function, shapes)
    here, in_kernel = machine(), isinstance(function, Function)
    declared, inside = None, True
    if isinstance(function, UserFunction):
        inside = bool(function.inside)
    elif not function.offset:
        declared, inside = _declared(function, shapes, here), False
    returned = _returned(function, shapes)
    if declared is not None:
        places = place_parameters(declared, shapes, here)
        return Scope(function.label, function.syscall, places, True, shapes, returned)
    registers = _REGISTERS.get(here, _X_REGISTERS)
    if not inside:
        registers = tuple(f"arg{number}" for number in range(6))
    unknown = shapes.declare("void *")  # that it may be followed
    places = place_parameters([(name, unknown) for name in registers], shapes, here)
    return Scope(function.label, function.syscall, places, False, shapes, returned, in_kernel)


def _record_scope(tracepoint: Tracepoint, shapes: Shapes) -> Scope:
    from .record_places import call_of, place_fields

    fields = place_fields(tracepoint, shapes)
    call = call_of(tracepoint)
    return Scope(tracepoint.label, call, fields, True, shapes, words=tracepoint.words)


def _returned(function: Function | UserFunction, shapes: Shapes) -> Place | None:
    """Where the return value is: in the first register, if that has room for it."""
    kind = shapes.declare("long")
    if function.syscall:
        kind = shapes.declare("void *") if function.syscall in _MAPPERS else kind
    elif isinstance(function, Function) and shapes.has_btf:
        with contextlib.suppress(BpfError):
            kind = shapes.returned(function.symbol)
    shape = shapes.shape(kind) if kind else None
    if shape is None or not 0 < shape.size <= _REGISTER or shape.kind not in SCALARS:
        return None
    return Place(shape, RETURN_VALUE, kind)


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

    def of(self, function: Probed) -> Shapes:
        """The types that a function's are among; without BTF only those of system calls.

        Of programs nothing is known; but what runs is one of the kernel's tasks: ``current``.
        """
        return self.of_module(function.module if isinstance(function, Function) else "")

    def of_module(self, module: str) -> Shapes:
        """A module's types, and the kernel's; "": the kernel's own."""
        if module not in self._opened:
            shapes = Shapes(self._open(module))
            if self._many and shapes.has_btf:
                shapes.index_functions()
            self._opened[module] = shapes
        return self._opened[module]

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
