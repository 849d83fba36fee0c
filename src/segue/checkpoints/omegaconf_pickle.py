"""An OmegaConf configuration in a pickle, as plain tables: what AudioCraft's solvers save.

`checkpoint.th` holds its `xp.cfg` as an object of omegaconf 2.x, not as text.  Nothing of that
library is imported or called: an object is kept as its class's name and the dict that it was to be
given, of which the values alone are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

TABLE, LIST = "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"
_NODES = {
    f"omegaconf.nodes.{name}Node"
    for name in ("Any", "Integer", "Float", "String", "Boolean", "Bytes")
}
_METADATA = {"omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"}

OBJECTS = {TABLE, LIST} | _NODES | _METADATA
"""Classes of which a pickle may hold objects."""

TYPES = {"typing.Any"} | {
    f"{module}.{name}"
    for module in ("__builtin__", "builtins")
    for name in ("bool", "bytes", "dict", "float", "int", "list", "long", "str", "tuple")
}
"""Names that metadata holds, of types of values; they are not loaded, and lead to nothing."""


@dataclass(eq=False)
class Object:
    """An object of omegaconf: the name of its class, and the dict of its attributes."""

    name: str
    state: dict[Any, Any] = field(default_factory=dict)

    @property
    def value(self) -> Any:
        """What it stands for: the dict or list of a container, the value of a node."""
        key = "_content" if self.name in (TABLE, LIST) else "_val"
        return self.state.get(key)


def plain(value: Any) -> Any:
    """`value`, a tree that was checked to be one, with plain tables in the place of objects."""
    if isinstance(value, Object):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items: Iterable[Any] = map(plain, value)
        return type(value)(items)
    return value
