"""What a proof did and saw, as a table."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Figures:
    """Of one proof: pairs of what and how much."""

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, what: str, seen: object) -> None:
        self.rows.append((what, str(seen)))

    def __str__(self) -> str:
        wide = max((len(what) for what, _ in self.rows), default=0)
        lines = [f"  {what:<{wide}}  {seen}" for what, seen in self.rows]
        return "\n".join([self.title, *lines])
