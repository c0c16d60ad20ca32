"""What the options ask of each function: which functions, arguments, filters, names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .arguments import Arguments, arguments_of_all
from .by import KEYS
from .columns import WIDTHS as FIELDS
from .columns import wanted_arguments
from .filter import Filter, compile_filter
from .functions import Function, find_functions
from .origin import RETURNED
from .pattern import Pattern, compile_patterns, least_length
from .places import nearest
from .scope import KernelTypes, MissingArgument
from .usage import UsageError

if TYPE_CHECKING:
    from .console import Console
    from .options import Options

#: A kernel's comm has room for so many bytes, and the NUL.
_COMM_MAX = 15

#: struct function's truth of a filter that everything passes.
_NO_FILTER = 0xFFFF


def find(options: Options) -> list[Any]:
    """What the words name. Raises: UsageError, BpfError."""
    words, found = list(options.words), list[Any]()
    if options.kind == "uprobe":
        from .user_functions import find_user_functions

        pids, all_of, returns = options.choice.pids, options.all_of, options.returns
        found += find_user_functions(words, pids=pids, all_of=all_of, returns=returns)
    elif options.kind == "tracepoint":
        from .tracepoints import find_tracepoints

        found += find_tracepoints(words)
    else:
        found += find_functions(words, address=options.address, all_of=options.all_of)
    inside = next((each.label for each in found if each.inside), "") if options.returns else ""
    if inside:
        raise UsageError(f"{inside}: a call is traced to its return from the function's beginning")
    return found


def all_arguments(
    options: Options, functions: list[Function], types: KernelTypes
) -> list[Arguments]:
    """Each function's arguments, that --args, --arg and --fields ask for.

    Raises: UsageError: no function has one of them.
    """
    if options.sums and not options.args:
        return [Arguments((), ())] * len(functions)
    named = {spec.partition(":")[0] for spec in options.args}
    if options.returns:  # it is there, in the format of --ret
        named.add(RETURNED)
    # --args has the function's own arguments.
    fields = [
        name
        for name in wanted_arguments(options.lines.fields)
        if name not in named and not (options.all_args and name.isidentifier())
    ]
    try:
        return arguments_of_all(
            functions,
            types,
            all_of=options.all_args,
            specs=[*options.args, *fields],
            raw=options.lines.raw_args,
            returns=options.returns and not options.sums,
            ret=options.ret,
        )
    except MissingArgument as error:
        if options.sums:
            (name,) = options.args
            raise _no_key(name, error) from None
        name = next((name for name in fields if str(error).startswith(f"--arg {name}:")), "")
        if not name:
            raise
        what = str(error).partition(": ")[2]
        known = ", ".join(FIELDS)
        raise UsageError(f"--fields: {name!r} is no field ({known}); {what}") from None


def _no_key(name: str, error: MissingArgument) -> UsageError:
    """That --by names what is none of its keys, and no argument either."""
    what = str(error).partition(": ")[2]
    near = nearest(name, list(KEYS))
    return UsageError(f"--by: {name!r} is none of {', '.join(KEYS)}{near}; {what}")


def able_to_fail(functions: list[Any], arguments: list[Arguments], console: Console) -> list[int]:
    """The places of the functions whose returns tell of errors, for --failed.

    Raises: UsageError: there is none.
    """
    able = [place for place, each in enumerate(arguments) if each.failed]
    if not able:
        raise UsageError(f"--failed: {functions[0].label} returns nothing that tells of an error")
    if len(able) < len(functions):
        console.warning(
            f"{len(functions) - len(able)} of {len(functions)} functions are not traced: they "
            "return nothing that tells of an error."
        )
    return able


def tell_left_out(functions: list[Function], made: list[Arguments], console: Console) -> None:
    """Says once what of --args finds no room in an event."""
    for function, arguments in zip(functions, made):
        if arguments.left_out:
            others = sum(bool(each.left_out) for each in made) - 1
            more = f" (and so with {others} more functions)" if others else ""
            names = ", ".join(arguments.left_out)
            console.warning(
                f"{function.label}: {names} find no room in an event, or are of no type that "
                f"can be printed{more}. Name what you want with --arg."
            )
            return


def all_filters(
    text: str, functions: list[Function], types: KernelTypes, console: Console
) -> tuple[list[Function], list[Filter]]:
    """The functions that have what the filter asks for, and the filter for each.

    Raises: UsageError: none has it, or the filter is wrong.
    """
    if not text:
        return functions, [Filter(_NO_FILTER, (), ())] * len(functions)
    able: list[Function] = []
    made: list[Filter] = []
    patterns: tuple[Pattern, ...] = ()
    missing: list[MissingArgument] = []
    for function in functions:
        try:
            made.append(compile_filter(text, function, types.of(function), patterns))
        except MissingArgument as error:
            missing.append(error)
            continue
        able.append(function)
        patterns = made[-1].patterns
    if not able:
        raise missing[0]
    if missing:
        console.warning(
            f"{len(missing)} of {len(functions)} functions are not traced: they have not the "
            "arguments that --filter asks for."
        )
    return able, made


def comm_pattern(comms: tuple[str, ...], console: Console) -> Pattern | None:
    """What recognises the names of processes. Raises: UsageError: none can be recognised."""
    cut = []
    for comm in comms:
        raw = os.fsencode(comm)
        if len(raw) > _COMM_MAX and not set(comm) & set("*?["):
            comm = os.fsdecode(raw[:_COMM_MAX])
            console.warning(f"The kernel keeps {_COMM_MAX} bytes of a name: --comm {comm!r} it is.")
        cut.append(comm)
    made = compile_patterns(cut) if cut else None
    for comm in cut:
        if least_length(comm) > _COMM_MAX:
            raise UsageError(
                f"--comm {comm!r} matches nothing: the kernel keeps {_COMM_MAX} bytes of a name"
            )
    return made
