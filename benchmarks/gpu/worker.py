"""One row in a process of its own: loads once, then measures at each request.

Arguments as JSON; each line that comes in is a variant, each that goes out is a measurement.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def row_of(row: str, shape: str, prompt_s: float, output_s: float, steps: int) -> Any:
    """What measures a row, loaded."""
    if row.startswith("segue"):
        from .segue_row import Row as SegueRow

        return SegueRow(row.removeprefix("segue "), shape, prompt_s, output_s)
    if row == "plain MLX loop":
        from .plain_row import Row as PlainRow

        return PlainRow(shape, prompt_s, output_s, steps)
    from .torch_rows import GraphRow, TransformersRow

    if row == "torch CUDA graph":
        return GraphRow(shape, prompt_s, output_s, 10 * steps)
    return TransformersRow("static" in row, shape, prompt_s, output_s, steps)


def main() -> None:
    """Measure for each line of input, until it ends."""
    out = sys.stdout
    sys.stdout = sys.stderr  # whatever libraries print
    try:
        row = row_of(**json.loads(sys.argv[1]))
        found: dict[str, Any] = {"about": row.about}
        if hasattr(row, "bytes_a_step"):
            from .segue_row import bytes_per_second

            found |= {"bytes": row.bytes_a_step(), "bytes per second": bytes_per_second()}
        print(json.dumps(found), file=out, flush=True)
        for line in sys.stdin:
            print(json.dumps(row.run(line.strip())), file=out, flush=True)
    except Exception as error:  # whatever a peer fails with is its result
        lines = str(error).strip().splitlines() or [""]
        print(json.dumps({"failed": f"{type(error).__name__}: {lines[0][:200]}"}), file=out)


if __name__ == "__main__":
    main()
