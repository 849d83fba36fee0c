"""The small change of graphs: constants, norms, the shapes of attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from .runtime import ops, ov

Output = Any
"""What a node of a graph hands on; OpenVINO types it loosely."""


def constant(
    values: np.ndarray | np.generic, dtype: Any = None, shape: tuple[int, ...] | None = None
) -> Output:
    """A constant that owns its memory.

    A constant over a numpy array would not keep it alive: the graph then reads freed memory, and
    the process dies at the first inference.

    Args:
        values: the values, or the bytes of a packed type.
        dtype: the type that the bytes are, where numpy has none for it.
        shape: in values of `dtype`.
    """
    values = np.asarray(values)
    if dtype is None:
        tensor = ov.Tensor(values.dtype, ov.Shape(values.shape))
        tensor.data[...] = values
    else:
        tensor = ov.Tensor(dtype, ov.Shape(shape))
        tensor.data.reshape(-1)[...] = values.reshape(-1)
    return ops.constant(tensor)


def integers(*values: int) -> Output:
    """A constant vector of integers, as shapes and axes are."""
    return constant(np.array(values, np.int64))


def integer(value: int) -> Output:
    """A constant integer."""
    return constant(np.array(value, np.int64))


def parameter(name: str, shape: tuple[int, ...], dtype: Any = None) -> Output:
    """An input; an axis of -1 may have any length."""
    return ops.parameter(ov.PartialShape(list(shape)), dtype or ov.Type.f32, name)


def layer_norm(x: Output, weight: np.ndarray, bias: np.ndarray) -> Output:
    """Normalise the last axis; the epsilon is that of torch and MLX."""
    normed = ops.mvn(x, integers(-1), True, 1e-5, "inside_sqrt")
    return ops.add(ops.multiply(normed, constant(weight)), constant(bias))


def split_heads(x: Output, heads: int, dim: int) -> Output:
    """`(B, S, heads * dim)` to `(B, heads, S, dim)`."""
    return swapped(ops.reshape(x, integers(0, 0, heads, dim), True))


def join_heads(x: Output, width: int) -> Output:
    """`(B, heads, S, dim)` to `(B, S, width)`."""
    return ops.reshape(swapped(x), integers(0, 0, width), True)


def swapped(x: Output) -> Output:
    """The two middle axes of four, swapped."""
    return ops.transpose(x, integers(0, 2, 1, 3))


def model(outputs: list[Output], inputs: list[Output], sinks: list[Output] | None = None) -> Any:
    """The model that computes `outputs` and keeps `sinks`."""
    results = [ops.result(output) for output in outputs]
    whole = ov.Model(results, sinks or [], inputs, "segue")
    # By default names count all nodes that a process has made, and compiled models are found again
    # by their names too.
    for n, node in enumerate(whole.get_ordered_ops()):
        node.set_friendly_name(str(n))
    for n, port in enumerate([*whole.inputs, *whole.outputs]):
        port.get_tensor().set_names({f"port {n}"})
    return whole
