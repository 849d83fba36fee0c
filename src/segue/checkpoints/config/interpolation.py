"""OmegaConf's `${...}` in AudioCraft's `xp.cfg`, resolved one field at a time.

AudioCraft exports `OmegaConf.to_yaml(cfg)` without resolving it, so a codec's own file says
`causal: ${encodec.causal}`.  The grammar is that of OmegaConf 2.x
(https://omegaconf.readthedocs.io/en/latest/grammar.html): paths from the root (`${a.b}`,
`${a[0]}`), relative ones (`${.a}` beside the field, `${..a}` one table up), nested ones
(`${a.${b}}`), and text around them.

OmegaConf itself is not used: the file is untrusted, and this resolves requested fields only, runs
no resolver, never reads the environment, and bounds the work that references to references make
(OmegaConf 2.4 takes minutes over eighteen fields that each name the next one twice).
Of the resolvers, `oc.select` looks a path up with a default, which is what paths do anyway, and
`oc.env` gives its default: the shape of a model cannot depend on an environment variable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ...errors import CheckpointError
from .schema import IncompleteConfigError

MAX_CHARACTERS = 1 << 20
"""Of an `xp.cfg`; MusicGen's have about 15,000."""

_MAX_LOOKUPS = 1000  # for one field: references can double at each step
_MAX_DEPTH = 50
_MAX_RESOLVED_CHARACTERS = 10_000
_MISSING = "???"  # OmegaConf's mark of a mandatory value without one

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML as OmegaConf reads it: `1e-4` is a number, as in YAML 1.2."""


_Loader.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)[eE][-+]?\d+"),
    list("-+0123456789."),
)


def parse(config_or_text: object) -> Section:
    """Parse an `xp.cfg`, whose references are resolved when a field is read.

    Args:
        config_or_text: its text, or tables that were parsed already.

    Raises:
        IncompleteConfigError: it is no YAML, or not a table.
    """
    config = _yaml(config_or_text) if isinstance(config_or_text, str) else config_or_text
    if not isinstance(config, Mapping):
        raise IncompleteConfigError("it is not a training configuration")
    return Section(config)


def _yaml(text: str) -> object:
    if len(text) > MAX_CHARACTERS:
        raise IncompleteConfigError(f"it has {len(text)} characters, more than a configuration has")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
    except (RecursionError, ValueError) as error:  # brackets without end; the 32nd of a month
        reason = type(error).__name__
    raise IncompleteConfigError(f"it is not YAML ({reason})")


class Section(Mapping[str, Any]):
    """A table whose fields are resolved when they are read.

    Args:
        root: the whole configuration.
        path: the keys that lead to this table.
    """

    def __init__(self, root: Mapping[Any, Any], path: Path = ()) -> None:
        self._root, self._path = root, path
        node: Any = root
        for key in path:
            node = node[key]
        self._node: Mapping[Any, Any] = node

    def __getitem__(self, key: str) -> Any:
        value = self._node[key]
        return _Resolver(self._root).value(value, (*self._path, key))

    def __contains__(self, key: object) -> bool:
        return key in self._node

    def __iter__(self) -> Iterator[str]:
        return iter(self._node)

    def __len__(self) -> int:
        return len(self._node)


@dataclass(frozen=True)
class _Reference:
    """The inside of one `${...}`: text, and references in it."""

    inside: tuple[str | _Reference, ...]


class _Resolver:
    """Resolves one field, within `_MAX_LOOKUPS`."""

    def __init__(self, root: Mapping[Any, Any]) -> None:
        self._root, self._left = root, _MAX_LOOKUPS
        self._active: list[Path] = []

    def value(self, value: Any, path: Path) -> Any:
        """Resolve the references in `value`, which is at `path`.

        Raises:
            CheckpointError: a reference leads nowhere, in a circle, or is of a kind that is not
                resolved; the value is `???`.
        """
        self._left -= 1
        if self._left < 0 or path in self._active or len(self._active) == _MAX_DEPTH:
            raise CheckpointError(f"{_dotted(path)} refers to itself, or to too much")
        self._active.append(path)
        try:
            if isinstance(value, Mapping):
                return Section(self._root, path)
            if isinstance(value, list):
                return [self.value(item, (*path, n)) for n, item in enumerate(value)]
            if value == _MISSING:
                raise CheckpointError(f"{_dotted(path)} is ???, a value never given")
            return self._text(value, path) if isinstance(value, str) else value
        finally:
            self._active.pop()

    def _text(self, text: str, path: Path) -> Any:
        if "${" not in text:
            return text
        return self._joined(_split(text, path), path)

    def _joined(self, parts: tuple[str | _Reference, ...], path: Path) -> Any:
        """The value of one reference as it is, or text with the values in it."""
        if len(parts) == 1:
            return parts[0] if isinstance(parts[0], str) else self._referred(parts[0], path)
        joined = ""
        for part in parts:
            value = part if isinstance(part, str) else self._referred(part, path)
            if isinstance(value, Section | list):
                raise CheckpointError(f"{_dotted(path)} has a table or a list within text")
            joined += str(value)
            if len(joined) > _MAX_RESOLVED_CHARACTERS:
                raise CheckpointError(f"{_dotted(path)} refers to too much text")
        return joined

    def _referred(self, reference: _Reference, path: Path) -> Any:
        head = reference.inside[0] if reference.inside else ""
        resolver = re.match(r"\s*([\w.]+)\s*:", head) if isinstance(head, str) else None
        if resolver is not None and isinstance(head, str):
            rest = (head[resolver.end() :], *reference.inside[1:])
            return self._resolver(resolver[1], rest, path)
        target = self._joined(reference.inside, path) if reference.inside else ""
        return self._look_up(str(target).strip(), path)

    def _resolver(self, name: str, rest: tuple[str | _Reference, ...], path: Path) -> Any:
        first, default = _arguments(rest)
        if name == "oc.select" and first:
            try:
                return self._look_up(str(self._joined(first, path)).strip(), path)
            except _NowhereError:
                return self._default(default or ("null",), path)
        if name == "oc.env" and default is not None:
            value = self._default(default, path)
            return None if value is None else str(value)  # as OmegaConf's, whose variables are text
        raise CheckpointError(
            f"{_dotted(path)} is computed by ${{{name}:...}}, which segue does not run"
        )

    def _default(self, default: tuple[str | _Reference, ...], path: Path) -> Any:
        value = self._joined(default, path)
        if len(default) > 1 or isinstance(default[0], _Reference):
            return value
        try:
            return yaml.load(value, _Loader)  # noqa: S506 - a SafeLoader
        except (yaml.YAMLError, ValueError):
            return value.strip()

    def _look_up(self, target: str, path: Path) -> Any:
        """The value at `target`, the path in a reference that is at `path`."""
        steps = target.lstrip(".")
        up = len(target) - len(steps)
        if up > len(path):
            raise self._nowhere(target, path)
        base: Path = path[: len(path) - up] if up else ()
        keys = [key for key in re.split(r"[.\[\]]", steps) if key]
        found: Any = Section(self._root, base) if isinstance(self._at(base), Mapping) else None
        if found is None:
            found = self._at(base)
        for n, key in enumerate(keys):
            if isinstance(found, Section):
                if key not in found:
                    raise self._nowhere(target, path)
                where = (*found._path, key)
                found = self.value(found._node[key], where)
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
                if n == 0:  # of the list with the reference, which is not resolved yet
                    found = self.value(found, (*base, int(key)))
            else:
                raise self._nowhere(target, path)
        return found

    def _at(self, path: Path) -> Any:
        node: Any = self._root
        for key in path:
            node = node[key]
        return node

    @staticmethod
    def _nowhere(target: str, path: Path) -> CheckpointError:
        return _NowhereError(f"{_dotted(path)} refers to {target[:80]!r}, which is not there")


class _NowhereError(CheckpointError):
    """A reference that leads nowhere."""


def _split(text: str, path: Path) -> tuple[str | _Reference, ...]:
    """Text and the references in it; behind a backslash, `${` is text."""
    stack: list[list[str | _Reference]] = [[]]
    for piece in filter(None, re.split(r"(\\\$\{|\$\{|\})", text)):
        if piece == "${":
            stack.append([])
        elif piece == "}" and len(stack) > 1:
            inside = tuple(stack.pop())
            stack[-1].append(_Reference(inside))
        else:
            stack[-1].append("${" if piece == "\\${" else piece)
    if len(stack) > 1:
        raise CheckpointError(f"{_dotted(path)} has a ${{ that is not closed")
    return tuple(stack[0])


def _arguments(
    parts: tuple[str | _Reference, ...],
) -> tuple[tuple[str | _Reference, ...], tuple[str | _Reference, ...] | None]:
    """The parts before the first comma, and those after it; None without a comma."""
    for n, part in enumerate(parts):
        if isinstance(part, str) and "," in part:
            before, _, after = part.partition(",")
            rest = [p for p in (after.strip(), *parts[n + 1 :]) if p != ""]
            return (*parts[:n], before), tuple(rest) or ("",)
    return parts, None


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
