"""Rows of a table as the kernel `lookup` is asked for them, here with numpy in its place."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from segue.engine.mlx import kernels
from segue.engine.mlx.kernels import runtime
from segue.engine.mlx.lookups import Lookup, entry


@pytest.fixture
def in_numpy(monkeypatch):
    """Does what the source says, to words of 32 bits."""

    def run(name, source, inputs, constants, outputs, blocks, threads, scalars):
        words, rows = np.array(inputs["table"]).reshape(-1), np.array(inputs["rows"]).reshape(-1)
        assert words.dtype == np.uint32
        at = np.arange(blocks * threads)
        at = at[at < scalars["count"] * scalars["words"]]
        found = words[rows[at // scalars["words"]] * scalars["words"] + at % scalars["words"]]
        ((shape, dtype),) = outputs.values()
        return [mx.array(found, dtype).reshape(shape)]

    monkeypatch.setattr(runtime, "run", run)


def by_hand(table, rows):
    """Rows one by one: for several at a time MLX compiles a kernel for each type, on CUDA."""
    whole = table
    if isinstance(table, nn.QuantizedEmbedding):
        how = {"group_size": table.group_size, "bits": table.bits, "mode": table.mode}
        whole = mx.dequantize(table.weight, table.scales, table.get("biases"), **how)
    elif isinstance(table, nn.Embedding):
        whole = table.weight
    numbers = np.array(rows)
    found = mx.concatenate([whole[n : n + 1] for n in numbers.reshape(-1).tolist()])
    return found.reshape(*numbers.shape, -1)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_rows_of_a_table_keep_their_type_and_lie_as_the_numbers_do(in_numpy, dtype):
    table = mx.random.normal((9, 6)).astype(dtype)
    rows = mx.array([[[0, 8], [3, 3], [1, 2]]])
    found = kernels.lookup(table, rows)
    assert found is not None
    assert (found.shape, found.dtype) == ((1, 3, 2, 6), dtype)
    assert mx.array_equal(found, by_hand(table, rows))


@pytest.mark.parametrize(
    ("bits", "mode"), [(0, ""), (3, "affine"), (4, "affine"), (8, "affine"), (4, "mxfp4")]
)
def test_rows_of_an_embedding_are_those_that_mlx_finds(in_numpy, bits, mode):
    table: nn.Module = nn.Embedding(20, 128)
    if bits:
        table = nn.QuantizedEmbedding.from_embedding(table, 32, bits, mode=mode)
    rows = mx.array([5, 0, 19, 5])
    found = kernels.lookup(table, rows)
    assert found is not None
    assert mx.array_equal(found, by_hand(table, rows))


def test_rows_that_are_no_whole_words_are_left_to_mlx(in_numpy):
    assert kernels.lookup(mx.zeros((4, 3), mx.float16), mx.array([1])) is None
    table = nn.QuantizedEmbedding.from_embedding(nn.Embedding(4, 32), 32, 4)
    table.scales = table.scales.astype(mx.float16)
    assert kernels.lookup(table, mx.array([1])) is None


def test_without_the_kernel_and_where_it_declines_mlx_finds_rows(monkeypatch):
    table, rows = mx.random.normal((5, 3)).astype(mx.float16), mx.array([[4], [0]])
    embedding = nn.Embedding(5, 4)
    asked = []
    monkeypatch.setattr(kernels, "lookup", lambda *given: asked.append(given))
    for lookup in (Lookup(), Lookup(frozenset({"embed"}))):
        assert mx.array_equal(lookup(table, rows), by_hand(table, rows))
        assert mx.array_equal(lookup(embedding, rows), by_hand(embedding, rows))
    assert len(asked) == 2


def test_an_entry_is_a_part_of_its_array():
    array = mx.arange(24).reshape(4, 3, 2)
    for n in range(4):
        np.testing.assert_array_equal(entry(array, n), np.array(array)[n])
