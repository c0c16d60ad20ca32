"""What the modules that ``ebpf-tool skeleton`` writes are made of."""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar, overload

from .attach import _attaches_itself, _names_its_target, attach_struct_ops
from .object import BpfObject

if TYPE_CHECKING:
    from .link import Link
    from .maps import Map
    from .program import Program

_Self = TypeVar("_Self", bound="Skeleton")
_Value = TypeVar("_Value", bool, int, bytes)


class Skeleton:
    """A BPF object with an attribute for each of its parts.

    Base of the class in a module that ``ebpf-tool skeleton`` wrote, which carries the object
    itself: nothing is looked for when it runs. Set variables between open() and load()::

        with Opensnoop.open() as skel:
            skel.variables.target_pid = 42
            skel.load()
            skel.attach()

    Attributes:
        obj: the BpfObject.
        programs: its programs; maps: its maps; variables: its global variables, read and set
            as plain attributes; links: by a program's name the Link that attach() made, or None.
            A type checker knows each of them.

    Source: what ``bpftool gen skeleton`` gives programs in C.
    """

    _name: str
    programs: Any
    maps: Any
    variables: Any
    links: Any

    def __init__(self, obj: BpfObject) -> None:
        self.obj = obj

    @staticmethod
    def content() -> bytes:
        """The object file."""
        raise NotImplementedError

    @classmethod
    def open(cls: type[_Self]) -> _Self:
        """Opens the object; nothing is loaded into the kernel.

        Returns: the skeleton; close it, or use ``with``.
        Raises: BpfError: libbpf is missing, or too old for the object.
        Source: ``bpf_object__open_mem`` (libbpf 0.0.6).
        """
        obj = BpfObject.open(cls.content(), name=cls._name)
        try:
            return cls(obj)
        except BaseException:
            obj.close()
            raise

    def load(self) -> None:
        """Loads it into the kernel. Raises: BpfError. Source: ``bpf_object__load``."""
        self.obj.load()

    def attach(self) -> None:
        """Attaches each program whose section says to what, and each struct_ops map.

        Left out is what is switched off (autoload, autoattach), what has a link in ``links``
        already, and a program whose section does not say to what: attach that one by its
        own method, and keep the Link in ``links``.

        Raises: BpfError: one could not be attached; then none of this call's is.
        Source: as ``bpf_object__attach_skeleton`` (libbpf 0.0.7).
        """
        made: list[str] = []
        try:
            for name, attach in self._attachable():
                setattr(self.links, name, attach())
                made.append(name)
        except BaseException:
            self._detach(made)
            raise

    def _attachable(self) -> list[tuple[str, Callable[[], Link]]]:
        """What attaches those that have no link yet, by the attribute's name."""
        programs: dict[str, Program] = vars(self.programs)
        maps: dict[str, Map[Any, Any]] = vars(self.maps)
        able: list[tuple[str, Callable[[], Link]]] = [
            (name, program.attach)
            for name, program in programs.items()
            if program.autoload and program.autoattach and _names_its_target(program)
        ]
        able += [(n, partial(attach_struct_ops, m)) for n, m in maps.items() if _attaches_itself(m)]
        return [(name, attach) for name, attach in able if getattr(self.links, name) is None]

    def detach(self) -> None:
        """Closes every link in ``links``. Source: ``bpf_object__detach_skeleton`` (0.0.7)."""
        self._detach([name for name, link in vars(self.links).items() if link is not None])

    def _detach(self, names: list[str]) -> None:
        for name in names:
            link: Link = getattr(self.links, name)
            setattr(self.links, name, None)
            link.close()

    def close(self) -> None:
        """Detaches and unloads it. A second call does nothing."""
        self.obj.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.obj!r}>"


class SkeletonVariables:
    """Base of a skeleton's variables. Args: obj: the BpfObject."""

    __slots__ = ("_obj",)  # a misspelt name is an AttributeError

    def __init__(self, obj: BpfObject) -> None:
        self._obj = obj


class Setting(Generic[_Value]):
    """A global variable as an attribute of a skeleton's variables.

    Args:
        name: the C variable's.
        kind: int, bool or bytes: what its value is, see Variable.
    """

    def __init__(self, name: str, kind: type[_Value]) -> None:
        self.name = name  # KIND is for type checkers: the setter checks values by BTF

    @overload
    def __get__(self, variables: None, owner: Any) -> Setting[_Value]: ...

    @overload
    def __get__(self, variables: SkeletonVariables, owner: Any) -> _Value: ...

    def __get__(self, variables: SkeletonVariables | None, owner: Any) -> Any:
        if variables is None:
            return self
        return variables._obj.variables[self.name].value

    def __set__(self, variables: SkeletonVariables, value: _Value) -> None:
        variables._obj.variables[self.name].value = value
