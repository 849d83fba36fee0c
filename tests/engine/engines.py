"""The engines that tests run on, and those that this machine has not got."""

from importlib.util import find_spec

import pytest

from segue.engine.native.library import unavailable

ENGINES = ("mlx", "native", "openvino")


def require(engine: str) -> None:
    """Skip the test where an engine does not run."""
    pytest.importorskip("mlx" if engine == "mlx" else "openvino")
    if engine == "native" and (why := unavailable()):
        pytest.skip(f"no native library: {why}")


def available() -> list[str]:
    """The engines that run here."""
    there = [name for name in ("mlx", "openvino") if find_spec(name) is not None]
    return there + ["native"] * ("openvino" in there and unavailable() is None)
