"""What the reader of torch .bin files promises: tensors as they were saved, and nothing that runs.

torch is not needed: `torch_files` writes the archives that `torch.save` writes, and hostile ones.
"""

import gc
import io
import random
import struct
import sys
import tarfile
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from segue.checkpoints import torch_archive, torch_file
from segue.errors import CheckpointError
from tests.checkpoints.torch_files import (
    ORDERED_DICT,
    REBUILD_PARAMETER,
    REBUILD_TENSOR,
    Call,
    Global,
    Persistent,
    Raw,
    archive,
    checkpoint,
    pickled,
    storage,
    tensor,
)

BF16 = np.dtype(ml_dtypes.bfloat16)
STORAGES = {
    "FloatStorage": np.dtype("float32"),
    "HalfStorage": np.dtype("float16"),
    "BFloat16Storage": BF16,
    "DoubleStorage": np.dtype("float64"),
    "LongStorage": np.dtype("int64"),
    "IntStorage": np.dtype("int32"),
    "ShortStorage": np.dtype("int16"),
    "CharStorage": np.dtype("int8"),
    "ByteStorage": np.dtype("uint8"),
    "BoolStorage": np.dtype("bool"),
}
WEIGHTS = np.arange(24, dtype=np.float32).reshape(4, 6)


def weights() -> bytes:
    return checkpoint({"w": tensor(storage(24), (4, 6), (6, 1))}, WEIGHTS)


Loader = Callable[[bytes], Any]


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    def load(data: bytes) -> Any:
        path = tmp_path / "state_dict.bin"
        path.write_bytes(data)
        return torch_file.load(path)

    return load


@pytest.fixture
def refusal(load: Loader, tmp_path: Path) -> Callable[[bytes], str]:
    """The message with which a file is refused: one line that begins with the file."""

    def refusal(data: bytes) -> str:
        with pytest.raises(CheckpointError) as caught:
            load(data)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / 'state_dict.bin'}: ")
        assert "\n" not in message
        assert message.isprintable()
        return message

    return refusal


# What is read


@pytest.mark.parametrize("kind", STORAGES)
def test_reads_every_type_of_number(load: Loader, kind: str) -> None:
    array = np.array([0, 1, 2, 3, 100, 127]).astype(STORAGES[kind])
    loaded = load(checkpoint(tensor(storage(6, kind), (2, 3), (3, 1)), array))
    assert type(loaded) is np.ndarray
    assert loaded.dtype == array.dtype
    np.testing.assert_array_equal(loaded, array.reshape(2, 3))


def test_reads_an_audiocraft_checkpoint(load: Loader) -> None:
    state = {"emb.0.weight": tensor(storage(24), (4, 6), (6, 1))}
    config = "transformer_lm:\n  dim: 6\n"
    loaded = load(checkpoint({"best_state": state, "xp.cfg": config}, WEIGHTS))
    assert loaded["xp.cfg"] == config
    np.testing.assert_array_equal(loaded["best_state"]["emb.0.weight"], WEIGHTS)


def test_reads_a_state_dict_with_its_metadata(load: Loader) -> None:
    items = pickled({"w": tensor(storage(24), (4, 6), (6, 1))}).removeprefix(b"}")
    state = pickled({"_metadata": {"": {"version": 1}}})
    loaded = load(checkpoint(Raw(pickled(ORDERED_DICT) + items + state + b"b"), WEIGHTS))
    assert type(loaded) is dict
    assert list(loaded) == ["w"]


def test_reads_a_parameter_as_its_tensor(load: Loader) -> None:
    parameter = Call(REBUILD_PARAMETER, (tensor(storage(24), (24,), (1,)), True, ORDERED_DICT))
    np.testing.assert_array_equal(load(checkpoint(parameter, WEIGHTS)), WEIGHTS.ravel())


def test_reads_containers_text_and_numbers(load: Loader) -> None:
    value = {
        "none": None,
        "list": [1, -2, 2**40, -(2**63)],
        "tuple": (0.5, True, False, ""),
        3: "é",
    }
    assert load(checkpoint(value)) == value
    assert load(checkpoint(Call(Global("torch", "Size"), ((2, 3),)))) == (2, 3)


def test_reads_a_bare_storage_as_one_row(load: Loader) -> None:
    untyped = Persistent(("storage", Global("torch.storage", "UntypedStorage"), "0", "cpu", 96))
    np.testing.assert_array_equal(load(checkpoint(untyped, WEIGHTS)).view(np.float32), WEIGHTS.flat)


def test_reads_what_protocols_4_and_5_write(load: Loader) -> None:
    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode() + b"\x94"

    rebuild = text("torch._utils") + text("_rebuild_tensor_v2") + b"\x93\x94"
    stored = b"(" + text("storage") + text("torch") + text("FloatStorage") + b"\x93\x94"
    stored += text("0") + text("cpu") + b"K\x18t\x94Q"
    hooks = text("collections") + text("OrderedDict") + b"\x93\x94)R\x94"
    shape = b"K\x00K\x04K\x06\x86\x94K\x06K\x01\x86\x94\x89"
    body = b"}\x94" + text("w") + rebuild + b"(" + stored + shape + hooks + b"t\x94R\x94s."
    for protocol in (4, 5):
        pickle = b"\x80" + bytes([protocol]) + b"\x95" + struct.pack("<Q", len(body)) + body
        loaded = load(archive({"x/data.pkl": pickle, "x/data/0": WEIGHTS.tobytes()}))
        np.testing.assert_array_equal(loaded["w"], WEIGHTS)


def test_reads_archives_of_any_name_and_without_a_byte_order(load: Loader) -> None:
    pickle = b"\x80\x02" + pickled(tensor(storage(24), (24,), (1,))) + b"."
    loaded = load(archive({"musicgen-π/data.pkl": pickle, "musicgen-π/data/0": WEIGHTS.tobytes()}))
    np.testing.assert_array_equal(loaded, WEIGHTS.ravel())


def test_strided_views_keep_their_strides(load: Loader) -> None:
    views = {
        "transposed": tensor(storage(24), (6, 4), (1, 6)),
        "sliced": tensor(storage(24), (2, 3), (6, 2), offset=6),
        "repeated": tensor(storage(24), (3, 6), (0, 1)),
        "scalar": tensor(storage(24), (), (), offset=23),
    }
    loaded = load(checkpoint(views, WEIGHTS))
    np.testing.assert_array_equal(loaded["transposed"], WEIGHTS.T)
    np.testing.assert_array_equal(loaded["sliced"], WEIGHTS[1:3, ::2])
    np.testing.assert_array_equal(loaded["repeated"], WEIGHTS[[0, 0, 0]])
    assert loaded["scalar"].shape == ()
    assert loaded["scalar"] == 23


@pytest.mark.parametrize("size", [(0,), (0, 4), (3, 0, 2)])
def test_reads_empty_tensors(load: Loader, size: tuple[int, ...]) -> None:
    empty = tensor(storage(0, "BFloat16Storage"), size, (1,) * len(size))
    loaded = load(checkpoint(empty, np.zeros(0, BF16)))
    assert (loaded.shape, loaded.dtype) == (size, BF16)
    assert not loaded.flags.writeable


def test_tensors_on_one_storage_share_memory(load: Loader) -> None:
    halves = [tensor(storage(24), (12,), (1,), offset) for offset in (0, 12)]
    whole = tensor(storage(24), (4, 6), (6, 1))
    first, second, both = load(checkpoint([*halves, whole], WEIGHTS))
    assert np.shares_memory(first, both)
    assert np.shares_memory(second, both)
    assert not np.shares_memory(first, second)


def test_tensors_are_read_only_views_of_the_file(load: Loader, tmp_path: Path) -> None:
    loaded = load(weights())["w"]
    with pytest.raises(ValueError, match="read-only"):
        loaded[0, 0] = 1
    with (tmp_path / "state_dict.bin").open("r+b") as file:
        file.seek(file.read().index(WEIGHTS.tobytes()))
        file.write(np.float32(7).tobytes())
    assert loaded[0, 0] == 7  # nothing was copied


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_many_tensors_need_few_open_files_and_release_them(load: Loader) -> None:
    gc.collect()  # files of refused checkpoints, which caught exceptions still hold
    before = open_files()
    tensors = [tensor(storage(1, key=str(key)), (1,), (1,)) for key in range(500)]
    loaded = load(checkpoint(tensors, *np.arange(500, dtype=np.float32)))
    assert [float(array[0]) for array in loaded] == list(range(500))
    assert open_files() <= before + 1
    del loaded
    assert open_files() == before


def test_a_window_is_unmapped_with_its_last_tensor(
    load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_archive, "WINDOW_BYTES", 4096)
    before = open_files()
    arrays = np.arange(8 * 512, dtype=np.float32).reshape(8, 512)  # 2 KiB each: some cross windows
    tensors = [tensor(storage(512, key=str(key)), (512,), (1,)) for key in range(8)]
    loaded = load(checkpoint(tensors, *arrays))
    np.testing.assert_array_equal(loaded, arrays)
    counts = []
    while loaded:
        counts.append(open_files() - before)
        loaded.pop()
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) > 4
    assert open_files() == before


# What is never run


def test_refuses_os_system_by_name(refusal: Callable[[bytes], str], tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    message = refusal(checkpoint(Call(Global("os", "system"), (f"touch {canary}",))))
    assert "refuses to load 'os.system': a checkpoint may hold tensors only" in message
    assert not canary.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("torch", "ComplexFloatStorage"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("segue.checkpoints.torch_file", "load"),
        ("", ""),
        ("collections", "OrderedDict.__class__.__base__.__subclasses__"),
        ("collections", "OrderedDict.update"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ],
)
@pytest.mark.parametrize("instruction", ["GLOBAL", "STACK_GLOBAL"])
def test_refuses_every_other_name_by_name(
    refusal: Callable[[bytes], str], instruction: str, module: str, name: str
) -> None:
    by_stack = Raw(pickled(module) + pickled(name) + b"\x93")
    named = Global(module, name) if instruction == "GLOBAL" else by_stack
    assert f"refuses to load '{module}.{name}'" in refusal(checkpoint(Call(named, ())))


def test_refuses_a_name_hidden_in_the_arguments_of_an_allowed_one(
    refusal: Callable[[bytes], str],
) -> None:
    inner = Call(Global("builtins", "eval"), ("1",))
    assert "'builtins.eval'" in refusal(checkpoint(tensor(storage(inner), (1,), (1,)), WEIGHTS))
    hooks = (tensor(storage(24), (24,), (1,)), True, inner)
    assert "'builtins.eval'" in refusal(checkpoint(Call(REBUILD_PARAMETER, hooks), WEIGHTS))


def test_refuses_a_name_too_long_or_unprintable_on_one_line(
    refusal: Callable[[bytes], str],
) -> None:
    for name in ("x" * 10_000, "evil\n\x1b[2Jline\u202e"):
        message = refusal(checkpoint(Raw(pickled("os") + pickled(name) + b"\x93")))
        assert len(message) < 500


@pytest.mark.parametrize(
    ("instruction", "payload"),
    [
        ("OBJ", b"(ctorch\nSize\no"),
        ("NEWOBJ", b"ctorch\nSize\n)\x81"),
        ("NEWOBJ_EX", b"ctorch\nSize\n)}\x92"),
        ("EXT1", b"\x82\x01"),
        ("EXT2", b"\x83\x01\x00"),
        ("EXT4", b"\x84\x01\x00\x00\x00"),
        ("PERSID", b"Pstorage\n"),
        ("NEXT_BUFFER", b"\x97"),
        ("BYTEARRAY8", b"\x96" + struct.pack("<Q", 1) + b"x"),
        ("LONG4", b"\x8b" + struct.pack("<i", 4) + b"\x00\x00\x00\x01"),
        ("EMPTY_SET", b"\x8f"),
    ],
)
def test_refuses_instructions_that_tensors_do_not_need(
    refusal: Callable[[bytes], str], instruction: str, payload: bytes
) -> None:
    message = refusal(checkpoint(Raw(payload)))
    assert f"refuses to carry out the pickle instruction {instruction}" in message


def test_refuses_the_instance_instruction_by_name(refusal: Callable[[bytes], str]) -> None:
    assert "refuses to load 'os.system'" in refusal(checkpoint(Raw(b"(ios\nsystem\n")))


@pytest.mark.parametrize(
    "target",
    [
        REBUILD_TENSOR,
        Global("torch", "FloatStorage"),
        tensor(storage(24), (24,), (1,)),
        storage(24),
        (1,),
        [],
        "text",
    ],
)
@pytest.mark.parametrize("state", [{"__defaults__": ()}, (None, {"__code__": None})])
def test_build_sets_nothing(refusal: Callable[[bytes], str], target: Any, state: Any) -> None:
    build = Raw(pickled(target) + pickled(state) + b"b")
    assert "damaged" in refusal(checkpoint([build], WEIGHTS))


def test_build_on_a_dict_changes_nothing_in_it(load: Loader) -> None:
    built = Raw(pickled(ORDERED_DICT) + pickled({"items": None, "__class__": 1}) + b"b")
    loaded = load(checkpoint(built))
    assert loaded == {}
    assert list(loaded.items()) == []


@pytest.mark.parametrize(
    "function",
    [
        None,
        1,
        "eval",
        {},
        (),
        tensor(storage(24), (24,), (1,)),
        Call(Global("torch", "Size"), ((1,),)),
    ],
)
def test_calls_nothing_but_names(refusal: Callable[[bytes], str], function: Any) -> None:
    assert "damaged" in refusal(checkpoint(Call(function, ()), WEIGHTS))


@pytest.mark.parametrize(
    "call",
    [
        Call(Global("torch", "FloatStorage"), (2**40,)),
        Call(Global("collections", "OrderedDict"), ([("a", 1)],)),
        Call(Global("torch", "Size"), (5,)),
        Call(REBUILD_TENSOR, ()),
        Call(REBUILD_TENSOR, None),
        Call(REBUILD_TENSOR, {"storage": 1}),
        Call(REBUILD_TENSOR, (None, 0, (1,), (1,), False, None)),
        Call(REBUILD_TENSOR, (Global("torch", "FloatStorage"), 0, (1,), (1,), False, None)),
        Call(REBUILD_TENSOR, (storage(24), 0, (24,), (1,), False, None, {"neg": True})),
        Call(REBUILD_PARAMETER, ("text", True, None)),
    ],
)
def test_refuses_allowed_names_called_as_torch_never_does(
    refusal: Callable[[bytes], str], call: Call
) -> None:
    refusal(checkpoint(call, WEIGHTS))


def test_refuses_to_hand_out_a_name_as_a_value(refusal: Callable[[bytes], str]) -> None:
    assert "'torch.FloatStorage'" in refusal(checkpoint([{"a": Global("torch", "FloatStorage")}]))


@pytest.mark.parametrize(
    "persistent_id",
    [
        None,
        7,
        "storage",
        (),
        ("storage",),
        ("module", Global("torch", "FloatStorage"), "0", "cpu", 24),
        ("storage", "torch.FloatStorage", "0", "cpu", 24),
        ("storage", ORDERED_DICT, "0", "cpu", 24),
        ("storage", Global("collections", "OrderedDict"), "0", "cpu", 24),
        ("storage", Global("torch", "FloatStorage"), 0, "cpu", 24),
        ("storage", Global("torch", "FloatStorage"), "1", "cpu", 24),
        ("storage", Global("torch", "FloatStorage"), "../data.pkl", "cpu", 1),
        ("storage", Global("torch", "FloatStorage"), "0", None, 24),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", 25),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", -1),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", 2**62),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", "24"),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", 24, None, 1),
    ],
)
def test_refuses_persistent_ids_of_another_shape(
    refusal: Callable[[bytes], str], persistent_id: Any
) -> None:
    refusal(checkpoint(Persistent(persistent_id), WEIGHTS))


def test_refuses_one_storage_under_two_types(refusal: Callable[[bytes], str]) -> None:
    two = [storage(24), storage(24, "HalfStorage")]
    assert "two types or sizes" in refusal(checkpoint(two, WEIGHTS))


# Views that would leave their storage


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((25,), (1,), 0),
        ((24,), (1,), 1),
        ((4, 6), (7, 1), 0),
        ((2,), (24,), 0),
        ((), (), 24),
        ((), (), 2**62),
        ((2,), (2**62,), 0),
        ((2, 2, 2), (2**62, 2**62, 2**62), 0),  # 3 * 2**62 is negative in 64 bits
        ((5,), (2**62,), 0),  # 4 * 2**62 is 0 in 64 bits
        ((2,), (1,), -1),
        ((2,), (-1,), 5),
        ((-1,), (1,), 0),
        ((-2, -2), (1, 1), 0),
        ((2**62,), (0,), 0),
        ((2**32, 2**32), (0, 0), 0),  # 2**64 numbers are 0 in 64 bits
        ((0, 2**62), (1, 1), 0),
        ((1000,), (0,), 0),
        ((2, 2), (1,), 0),
        ((2,), (1, 1), 0),
        ((1,) * 65, (1,) * 65, 0),
        ([24], (1,), 0),
        ((24.0,), (1,), 0),
        ((True,), (1,), 0),
        ((24,), (None,), 0),
        ((24,), (1,), "0"),
        (24, 1, 0),
    ],
)
def test_refuses_a_view_outside_its_storage(
    refusal: Callable[[bytes], str], size: Any, stride: Any, offset: Any
) -> None:
    refusal(checkpoint(tensor(storage(24), size, stride, offset), WEIGHTS))


# Files that would cost more than they are worth


@pytest.mark.parametrize(
    "bomb",
    [
        b"]" + b"q\x00](h\x00h\x00e" * 100,  # lists of lists of lists, 2**100 in all
        b"N\x85" + b"q\x00h\x00\x86" * 100,
        b"]q\x00h\x00a",  # a list in itself
        b"N" + b"\x85" * 100_000,  # deep enough for a recursive reader to fall over
    ],
)
def test_refuses_containers_that_unfold_without_end(
    refusal: Callable[[bytes], str], bomb: bytes
) -> None:
    assert "nested without end" in refusal(checkpoint(Raw(bomb)))


def test_refuses_containers_as_keys(refusal: Callable[[bytes], str]) -> None:
    deep = b"N" + b"\x85" * 1_000_000  # hash() of this overflows the stack of C
    assert "as the key of a dict" in refusal(checkpoint(Raw(b"}" + deep + b"Ns")))


@pytest.mark.parametrize(
    "payload",
    [
        b"B\xff\xff\xff\x7f",  # BINBYTES of 2 GiB
        b"\x8e" + b"\xff" * 7 + b"\x7f",  # BINBYTES8 of 8 EiB
        b"\x8d" + b"\xff" * 7 + b"\x7f",  # BINUNICODE8
        b"X\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\x7f",  # LONG4
        b"I" + b"9" * 100_000 + b"\n",
        b"Nr\xff\xff\xff\xff0",  # LONG_BINPUT at an index that would need a table of 32 GiB
        b"\x95" + b"\xff" * 8,  # FRAME
    ],
)
def test_claimed_lengths_cost_nothing(refusal: Callable[[bytes], str], payload: bytes) -> None:
    data = checkpoint(Raw(payload))
    tracemalloc.start()
    try:
        refusal(data)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_refuses_integers_longer_than_64_bits(refusal: Callable[[bytes], str]) -> None:
    assert "64 bits" in refusal(checkpoint({2**63: None}))


def test_refuses_a_pickle_larger_than_names_and_shapes_need(
    refusal: Callable[[bytes], str],
) -> None:
    assert "more than fits" in refusal(checkpoint("x" * 2**22))


@pytest.mark.parametrize(
    "payload",
    [b"", b"N", b"R", b"(", b"u", b"0", b"t.", b"s.", b"h\x05.", b"Q.", b"\xff.", b"]0a."],
)
def test_refuses_instructions_without_their_operands(
    refusal: Callable[[bytes], str], payload: bytes
) -> None:
    refusal(archive({"a/data.pkl": payload.removesuffix(b".") if payload == b"N" else payload}))


# Zip archives that torch does not write


def test_refuses_a_zip_bomb_without_expanding_it(refusal: Callable[[bytes], str]) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("a/data.pkl", b"0" * 2**26)
    tracemalloc.start()
    try:
        assert "'a/data.pkl' compressed" in refusal(file.getvalue())
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_refuses_a_compressed_storage(refusal: Callable[[bytes], str]) -> None:
    file = io.BytesIO(weights())
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("archive/data/1", bytes(1000))
    assert "'archive/data/1' compressed" in refusal(file.getvalue())


def rewritten(data: bytes, **fields: Any) -> bytes:
    """`data` with other values in the directory entry of its last member."""
    entry = bytearray(data)
    at = entry.rindex(b"PK\x01\x02")
    places = {
        "flags": (8, "<H"),
        "compressed": (20, "<I"),
        "size": (24, "<I"),
        "header": (42, "<I"),
    }
    for field, value in fields.items():
        offset, form = places[field]
        struct.pack_into(form, entry, at + offset, value)
    return bytes(entry)


def test_refuses_an_encrypted_archive(refusal: Callable[[bytes], str]) -> None:
    assert "encrypted" in refusal(rewritten(weights(), flags=1))


@pytest.mark.parametrize("size", [1000, 2**31, 2**32 - 2])
def test_refuses_members_that_reach_past_the_end(
    refusal: Callable[[bytes], str], size: int
) -> None:
    assert "reaches past its end" in refusal(rewritten(weights(), compressed=size, size=size))


@pytest.mark.parametrize("header", [0, 1, 200, 2**31, 2**32 - 2])
def test_refuses_members_that_begin_elsewhere(refusal: Callable[[bytes], str], header: int) -> None:
    refusal(rewritten(weights(), header=header))


def test_refuses_members_that_overlap(refusal: Callable[[bytes], str]) -> None:
    inner = archive({"archive/data/1": bytes(64)})
    start = inner.index(b"PK\x01\x02")
    data = checkpoint(storage(len(inner) // 4), np.frombuffer(inner[:start], np.uint8))
    entry = bytearray(inner[start : inner.index(b"PK\x05\x06")])
    struct.pack_into("<I", entry, 42, data.index(inner[:start]))
    directory, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 4, 4, end - directory + len(entry))
    assert "overlap" in refusal(data[:end] + bytes(entry) + bytes(tail))


def test_refuses_duplicate_names(refusal: Callable[[bytes], str]) -> None:
    file = io.BytesIO(weights())
    with (
        zipfile.ZipFile(file, "a") as writer,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        writer.writestr("archive/data/0", bytes(96))
    assert "'archive/data/0' twice" in refusal(file.getvalue())


def test_refuses_a_directory_that_claims_gigabytes(refusal: Callable[[bytes], str]) -> None:
    data = bytearray(weights())
    struct.pack_into("<I", data, data.index(b"PK\x05\x06") + 12, 2**32 - 2)
    tracemalloc.start()
    try:
        refusal(bytes(data))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_refuses_big_endian_numbers(refusal: Callable[[bytes], str]) -> None:
    stored = tensor(storage(24), (24,), (1,))
    assert "little-endian" in refusal(checkpoint(stored, WEIGHTS, byteorder=b"big"))


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"data.pkl": b"N."},
        {"config.json": b"{}"},
        {"a/b/data.pkl": b"N."},
        {"a/data.pkl": b"N.", "b/data.pkl": b"N."},
    ],
)
def test_refuses_zips_that_torch_did_not_write(
    refusal: Callable[[bytes], str], members: dict[str, bytes]
) -> None:
    refusal(archive(members))


# Other files


def test_names_an_empty_file(refusal: Callable[[bytes], str]) -> None:
    assert "is empty" in refusal(b"")


@pytest.mark.parametrize(
    "data", [b"x", b"version https://git-lfs.github.com/spec/v1\n", b"\x80\x02N.", bytes(2000)]
)
def test_names_a_file_that_is_no_zip(refusal: Callable[[bytes], str], data: bytes) -> None:
    assert "not a zip archive that torch.save wrote" in refusal(data)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_a_legacy_tar(refusal: Callable[[bytes], str], form: int) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    message = refusal(file.getvalue())
    assert "legacy tar" in message
    assert "safetensors" in message


def test_names_a_legacy_pickle_and_how_to_save_it_again(refusal: Callable[[bytes], str]) -> None:
    legacy = b"\x80\x02" + pickled(0x1950A86A20F9469CFC6C) + b".\x80\x02M\xe9\x03."
    message = refusal(legacy + b"cos\nsystem\n(X\x02\x00\x00\x00idtR.")
    assert "legacy pickle" in message
    assert "torch.save(torch.load(old, weights_only=True), new)" in message


def test_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.bin", tmp_path):
        with pytest.raises(CheckpointError, match="cannot be read") as caught:
            torch_file.load(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_file_cut_short_anywhere_is_refused(refusal: Callable[[bytes], str]) -> None:
    data = weights()
    for length in range(len(data)):
        refusal(data[:length])


def test_a_file_with_damaged_bytes_loads_or_is_refused(load: Loader) -> None:
    rng = random.Random(0)
    inside = {
        "a": tensor(storage(24), (4, 6), (6, 1)),
        "b": [Call(REBUILD_PARAMETER, ())],
        "c": 2.5,
    }
    inside["b"] = tensor(storage(3, "BFloat16Storage", "1"), (3,), (1,), 0)
    whole = checkpoint(inside, WEIGHTS, np.ones(3, BF16))
    loaded = 0
    tracemalloc.start()
    try:
        for _ in range(1000):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                walk(load(bytes(data)))
                loaded += 1
            except CheckpointError:
                pass
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
    assert 0 < loaded < 1000


def walk(value: Any) -> None:
    """Touch every number, so that a view outside its file would not go unnoticed."""
    match value:
        case dict():
            walk(list(value.values()))
        case list() | tuple():
            for item in value:
                walk(item)
        case np.ndarray():
            value.tobytes()
        case _:
            assert value is None or isinstance(value, str | int | float)


def test_reads_as_many_tensors_as_the_largest_model_has_with_work_for_each_but_no_more(
    load: Loader,
) -> None:
    def calls(count: int) -> int:
        """Calls of functions, of Python's own too, that it takes to load so many tensors."""
        tensors = {
            f"transformer.layers.{key}.self_attn.in_proj_weight": tensor(
                storage(1, "HalfStorage", str(key)), (1,), (1,)
            )
            for key in range(count)
        }
        data = checkpoint(tensors, *np.arange(count, dtype=np.float16))
        events: Counter[str] = Counter()
        sys.setprofile(lambda frame, event, argument: events.update((event,)))
        try:
            loaded = load(data)
        finally:
            sys.setprofile(None)
        assert len(loaded) == count
        return events["call"] + events["c_call"]

    assert calls(1500) < 2.1 * calls(750)


def test_holds_no_lock_on_the_file(load: Loader, tmp_path: Path) -> None:
    loaded = load(weights())
    (tmp_path / "state_dict.bin").replace(tmp_path / "renamed.bin")
    np.testing.assert_array_equal(loaded["w"], WEIGHTS)
