"""Reads a site's YAML so that every mistake has a file and a line.

Safe-load semantics, and stricter where YAML would surprise: no tags that build objects, no repeated keys,
no keys that are not text, no `22:30` read as the number 1350. The tree is built from parser events and
not by the library's composer: that one recurses in C, and a few kilobytes of `[` end the process.
"""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from lamplighter.errors import Mistake
from lamplighter.model.selection import visible

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 2_000_000  # written out, aliases included; 10,000 hosts of 20 variables are 400,000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = "tag:yaml.org,2002:"
_HARMLESS_TAGS = {None, "!", f"{_CORE}str", f"{_CORE}map", f"{_CORE}seq"}
_RESOLVER: Any = yaml.resolver.Resolver()
_SCALARS: Any = yaml.constructor.SafeConstructor()

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Source:
    """One input file and where its mistakes go.

    Attributes:
        file: the path as the reader would type it.
        report: shared by all files of a site; every mistake is appended to it.
    """

    file: str
    report: list[Mistake]

    def mistake(self, line: int, message: str, advice: str = "") -> None:
        """Note a mistake at a 1-based line; 0 means the whole file."""
        self.report.append(Mistake(self.file, line, visible(message), visible(advice)))


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence about a site that is no mistake.

    Attributes:
        text: the sentence.
        warning: something may not be as its writer believes.
    """

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """What `check` has to say of a site.

    Attributes:
        mistakes: sorted.
        remarks: what is no mistake.
    """

    mistakes: tuple[Mistake, ...]
    remarks: tuple[Remark, ...]


@dataclass(slots=True, eq=False)
class Node:
    """A value and the line it begins on.

    Attributes:
        line: 1-based.
        value: a scalar, a list of nodes, or nodes by key.
        key_lines: for a mapping, the line of each key.
        size: nodes below and including this one, written out.
        written: a number as it stands there; empty for anything else.
    """

    line: int
    value: Scalar | list[Node] | dict[str, Node]
    key_lines: dict[str, int] = field(default_factory=dict)
    size: int = 1
    written: str = ""

    @property
    def mapping(self) -> dict[str, Node] | None:
        """The entries when this is a mapping, else None."""
        return self.value if isinstance(self.value, dict) else None

    def plain(self) -> Any:
        """The value as plain Python: dictionaries, lists, scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def line_of(self, path: tuple[int | str, ...]) -> int:
        """The line of the deepest node on `path` that exists; a key's line rather than its value's."""
        node, line = self, self.line
        for part in path:
            if isinstance(node.value, dict) and part in node.value:
                line = node.key_lines[str(part)]
                node = node.value[str(part)]
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.line
            else:
                break
        return line

    @property
    def kind(self) -> str:
        """What it is, for a message."""
        names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "empty"}
        return names.get(type(self.value), "a number")


_Open: TypeAlias = tuple[Node, str | None, list[Node]]
"""A collection whose end was not read yet: its node, its anchor, what stands in it."""


class _StopReadingError(Exception):
    """The file cannot be read on; the mistake is already noted."""


def read_text(path: Path, source: Source) -> str | None:
    """Read a small UTF-8 text file, with or without a byte order mark; None as for `read_bytes`."""
    data = read_bytes(path, source, MAX_BYTES)
    if data is None:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        line = data.count(b"\n", 0, error.start) + 1
        source.mistake(0 if wide else line, "is UTF-16, not UTF-8" if wide
                       else f"byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8")
        return None


def read_bytes(
    path: Path, source: Source, limit: int, too_large: str = "split the estate into several sites"
) -> bytes | None:
    """Read a small file; None when it is missing, larger, or cannot be read, with the mistake noted.

    Args:
        path: the file.
        source: takes the mistake.
        limit: in bytes.
        too_large: what to do about a larger one.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError  # noqa: TRY301 - one place words the mistake
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except FileNotFoundError:
        source.mistake(0, "the file is missing", "copy it from inventories/template/ and fill it in")
        return None
    except OSError as error:
        source.mistake(0, f"cannot be read: {error.strerror}", "make it readable for this account")
        return None
    if len(data) > limit:
        source.mistake(0, f"larger than {limit} bytes", too_large)
        return None
    return data


def read_yaml(path: Path, source: Source) -> Node | None:
    """Read one YAML document.

    Args:
        path: the file.
        source: how the file is called in mistakes, and where they go.

    Returns:
        Its root; None when the file is missing, empty or cannot be parsed, with the mistake noted.
    """
    text = read_text(path, source)
    return None if text is None else parse_yaml(text, source)


def parse_yaml(text: str, source: Source, *, needed: bool = True) -> Node | None:
    """Parse YAML text; see `read_yaml`. Where it is not `needed`, an empty one is no mistake."""
    try:
        root = _Builder(source).build(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        source.mistake(line, *_yaml_problem(text, line, error.problem or error.context or "unreadable"))
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        source.mistake(line, "holds a control character that YAML does not allow", "delete it")
        return None
    except _StopReadingError:
        return None
    if root is None and needed:
        source.mistake(0, "the file is empty", "copy it from inventories/template/ and fill it in")
    return root


class _Builder:
    """Turns parser events into nodes without recursing."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.anchors: dict[str, Node | None] = {}

    def build(self, events: Iterator[yaml.Event]) -> Node | None:
        root: Node | None = None
        documents = 0
        stack: list[_Open] = []
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.source.mistake(_line(event), "a second YAML document begins here",
                                        "keep one document in the file; delete the `---`")
                    raise _StopReadingError
            elif isinstance(event, yaml.CollectionStartEvent):
                self._open(event, stack)
            elif isinstance(event, yaml.CollectionEndEvent):
                root = self._place(self._close(*stack.pop()), stack)
            elif isinstance(event, yaml.ScalarEvent):
                root = self._place(self._scalar(event), stack)
            elif isinstance(event, yaml.AliasEvent):
                root = self._place(self._alias(event), stack)
        return root

    def _open(self, event: yaml.CollectionStartEvent, stack: list[_Open]) -> None:
        line = _line(event)
        self._check_tag(event.tag, line)
        if len(stack) >= MAX_DEPTH:
            self.source.mistake(line, f"nested deeper than {MAX_DEPTH} levels", "write it flatter")
            raise _StopReadingError
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.anchor:
            self.anchors[event.anchor] = None  # known, and not to be used before it is closed
        stack.append((Node(line, {} if is_mapping else []), event.anchor, []))

    def _place(self, node: Node, stack: list[_Open]) -> Node:
        if stack:
            stack[-1][2].append(node)
        return node

    def _close(self, node: Node, anchor: str | None, parts: list[Node]) -> Node:
        node.size = 1 + sum(part.size for part in parts)
        if node.size > MAX_NODES:
            self.source.mistake(node.line, f"stands for more than {MAX_NODES} values once its aliases are "
                                "written out", "write the values out instead of nesting aliases")
            raise _StopReadingError
        if isinstance(node.value, list):
            node.value.extend(parts)
        else:
            self._fill(node, parts)
        if anchor:
            self.anchors[anchor] = node
        return node

    def _fill(self, node: Node, parts: list[Node]) -> None:
        """Pair keys and values; merged entries (`<<`) never override written ones, as YAML 1.1 has it."""
        entries: dict[str, Node] = {}
        merged: list[Node] = []
        for key, value in zip(parts[::2], parts[1::2], strict=True):
            name = self._key(key)
            if name == _MERGE:
                merged += value.value if isinstance(value.value, list) else [value]
            elif name in entries:
                self.source.mistake(key.line, f"`{name}` stands twice in this mapping; the first is on line "
                                    f"{node.key_lines[name]}", "keep one of the two")
            else:
                entries[name] = value
                node.key_lines[name] = key.line
        for other in merged:
            if not isinstance(other.value, dict):
                self.source.mistake(other.line, f"`<<` needs a mapping, not {other.kind}")
                continue
            for name, value in other.value.items():
                entries.setdefault(name, value)
                node.key_lines.setdefault(name, other.key_lines[name])
        node.value = entries

    def _key(self, key: Node) -> str:
        if isinstance(key.value, str):
            return key.value
        if isinstance(key.value, dict | list):
            self.source.mistake(key.line, f"a key must be text, not {key.kind}")
            return f"line {key.line}"
        word = "nothing" if key.value is None else str(key.value).lower()
        self.source.mistake(key.line, f"this key is read as {word}, not as text",
                            "put it in quotation marks")
        return word

    def _scalar(self, event: yaml.ScalarEvent) -> Node:
        line = _line(event)
        self._check_tag(event.tag, line)
        value: Scalar = event.value
        if event.tag is None and event.implicit[0]:
            try:
                value = _resolve(event.value)
            except ValueError:
                self.source.mistake(line, "this number or date cannot be read", "put it in quotation marks")
            if isinstance(value, int | float) and ":" in event.value:
                self.source.mistake(line, f"`{event.value}` is read as the number {value}",
                                    "put it in quotation marks")
        if isinstance(value, str) and not value.isascii() and not unicodedata.is_normalized("NFC", value):
            value = unicodedata.normalize("NFC", value)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        node = Node(line, value, written=event.value if number else "")
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent) -> Node:
        line = _line(event)
        name = event.anchor or ""
        node = self.anchors.get(name)
        if node is None:
            known = name in self.anchors
            self.source.mistake(line, f"`*{name}` " + ("stands inside itself" if known
                                else "refers to no anchor above it"), "write the value out")
            raise _StopReadingError
        return node

    def _check_tag(self, tag: str | None, line: int) -> None:
        if tag in _HARMLESS_TAGS:
            return
        shown = tag.replace(_CORE, "!!") if tag else ""
        advice = "delete the tag"
        if "vault" in shown:
            advice = "name the secret instead: env:NAME, file:PATH or cmd:NAME"
        self.source.mistake(line, f"the tag `{shown[:60]}` is not read", advice)


_MERGE = "<<"


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


@lru_cache(maxsize=65536)
def _resolve(text: str) -> Scalar:
    """What YAML 1.1 makes of an unquoted scalar; dates stay text."""
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    node = yaml.ScalarNode(tag, text)
    match tag.removeprefix(_CORE):
        case "null":
            return None
        case "bool":
            return bool(_SCALARS.construct_yaml_bool(node))
        case "int":
            return int(_SCALARS.construct_yaml_int(node))
        case "float":
            return float(_SCALARS.construct_yaml_float(node))
        case _:
            return text


def _yaml_problem(text: str, line: int, problem: str) -> tuple[str, str]:
    lines = text.splitlines()
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return "the line is indented with a tab", "indent with spaces"
    return f"not YAML: {problem}", "check the indentation, colons and brackets of this line and the one above"
