"""What may be chosen when a runbook is started: names and types, from the one place that declares them. Pure.

A flow's parameters are those of its function, which Prefect makes its form of. A runbook's options, which
plans, signed requests and standing approvals name, are the fields of its operation that `Operation.options`
gives. Nothing else is one: what else an operation is built with, such as a clock, is nobody's to choose.
"""

from __future__ import annotations

import enum
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from lamplighter.errors import SelectionError
from lamplighter.model.canonical import Json
from lamplighter.model.selection import closest

if TYPE_CHECKING:
    from lamplighter.model.operation import Operation
    from lamplighter.model.runbook import Runbook


REQUESTER = "requester"
"""The parameter that says who asks: the one thing a signed request cannot hold, for it holds the request."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A choice that is none. Attributes: name; what is wrong; what to write instead."""

    name: str
    message: str
    advice: str

    def __str__(self) -> str:
        return f"{self.message} ({self.advice})"


@dataclass(frozen=True, slots=True)
class Choices:
    """See the module's docstring.

    Attributes:
        types: by name, as annotated.
        required: names without a default.
    """

    types: Mapping[str, Any]
    required: frozenset[str] = frozenset()

    def without(self, *names: str) -> Choices:
        """All but these."""
        types = {name: kind for name, kind in self.types.items() if name not in names}
        return Choices(types, self.required - set(names))

    def wrong(self, given: Mapping[str, Json]) -> Iterator[Wrong]:
        """Every name that is not known, and every value that is not of its type."""
        for name, value in given.items():
            if name not in self.types:
                close = closest(name, self.types)
                has = ", ".join(sorted(self.types)) or "none"
                advice = f"did you mean `{close}`?" if close else f"there are: {has}"
                yield Wrong(name, f"there is no option `{name}`", advice)
            elif not _fits(self.types[name], value):
                yield self._ill_typed(name, value)

    def read(self, pairs: Iterable[str]) -> dict[str, Json]:
        """`packages=all repair=true`, as somebody typed it, in the types that are meant.

        Raises:
            SelectionError: with every mistake: a pair without `=`, what `wrong` finds.
        """
        found: dict[str, Json] = {}
        problems: list[str] = []
        for pair in pairs:
            name, equals, text = pair.partition("=")
            if not equals:
                problems.append(f"{pair!r} is not NAME=VALUE")
            elif name in found:
                problems.append(f"`{name}` is given twice")
            else:
                found[name] = _typed(self.types.get(name), text)
        self.require(found, problems)
        return found

    def require(self, given: Mapping[str, Json], problems: Iterable[str] = ()) -> None:
        """Refuse what is wrong.

        Raises:
            SelectionError: with every mistake.
        """
        told = [*problems, *map(str, self.wrong(given))]
        if told:
            raise SelectionError("; ".join(told), changed="Nothing was changed, and nothing was signed")

    def _ill_typed(self, name: str, value: Json) -> Wrong:
        kind = self.types[name]
        shown = value if isinstance(value, str) else json.dumps(value, default=str)
        close = closest(str(value), map(str, _members(kind)))
        advice = f"did you mean `{close}`?" if close else f"write {_words(kind)}"
        return Wrong(name, f"`{name}` cannot be `{str(shown)[:80]}`", advice)


def parameters_of(function: Callable[..., Any]) -> Choices:
    """What a flow may be started with."""
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters
    needed = (name for name, one in parameters.items() if one.default is inspect.Parameter.empty)
    return Choices({name: hints.get(name, Any) for name in parameters}, frozenset(needed))


def started_with(runbook: Runbook, given: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a runbook's flow is started with, defaults written out, but the requester.

    Args:
        runbook: as the catalogue has it.
        given: some of the parameters.
    """
    if runbook.start is None:
        return {name: value for name, value in given.items() if name != REQUESTER}
    parameters = inspect.signature(runbook.start).parameters
    filled = {name: one.default for name, one in parameters.items() if one.default is not one.empty}
    return {name: value for name, value in (filled | dict(given)).items() if name != REQUESTER}


def options_of(runbook: Runbook) -> Choices:
    """What a runbook's plans, requests and standing approvals name.

    Raises:
        SelectionError: the runbook changes nothing.
    """
    build = _operation(runbook)
    hints = get_type_hints(build)
    return Choices({name: hints[name] for name in build().options()})


def operation_with(runbook: Runbook, given: Mapping[str, Json]) -> Operation[Any]:
    """A runbook's operation, with these options.

    Raises:
        SelectionError: with every mistake in them; or the runbook changes nothing.
    """
    build = _operation(runbook)
    options_of(runbook).require(given)
    return build(**given)


def _operation(runbook: Runbook) -> Callable[..., Operation[Any]]:
    if runbook.operation is None:
        raise SelectionError(f"{runbook.id} changes nothing, so there is nothing to ask for or approve")
    return runbook.operation


def _fits(kind: Any, value: Json) -> bool:
    """As JSON, and strictly: no text where a number belongs."""
    try:
        TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except (ValidationError, TypeError, ValueError):
        return False
    return True


def _typed(kind: Any, text: str) -> Json:
    """The text itself where text is meant; what it says as JSON otherwise."""
    if kind is None or _fits(kind, text):
        return text
    try:
        value: Json = json.loads(text)
    except ValueError:
        return text
    return value


def _members(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(kind) if isinstance(kind, enum.EnumMeta) else ()


def _words(kind: Any) -> str:
    known: dict[Any, str] = {bool: "true or false", int: "a whole number", str: "text"}
    members = _members(kind)
    return f"one of: {', '.join(map(str, members))}" if members else known.get(kind, str(kind))
