from __future__ import annotations

import importlib.resources
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from segue.checkpoints import download
from segue.checkpoints.catalogue import CATALOGUE, DEFAULT_DESCRIPTIONS
from segue.checkpoints.files import CONFIG_ONLY
from segue.checkpoints.hub import BUILT_IN, find_local, local_models, locate
from segue.errors import CheckpointError
from segue.progress import Advance, Progress
from tests.disks import fill, small_disk
from tests.fake_hub import FakeHub


def data(size: int) -> bytes:
    return random.Random(size).randbytes(size)


MUSICGEN_CONFIG = b'{"model_type": "musicgen"}'
BESIDE = {
    "config.json": MUSICGEN_CONFIG,
    "generation_config.json": b"{}",
    "preprocessor_config.json": b"{ }",
    "tokenizer.json": data(3000),
    "tokenizer_config.json": b"{  }",
    "special_tokens_map.json": b"{   }",
    "spiece.model": data(5000),
}
AUDIOCRAFT = {"compression_state_dict.bin": data(700), "state_dict.bin": data(200_000)}
SAFETENSORS = {"model.safetensors": data(300_000)}
TORCH = {"pytorch_model.bin": data(300_001)}
NEVER = {"README.md": b"# hello", ".gitattributes": b"*", "tf_model.h5": data(90)}
MUSICGEN = NEVER | AUDIOCRAFT | TORCH | BESIDE | SAFETENSORS


def index_of(*shards: str) -> bytes:
    return json.dumps({"weight_map": {f"tensor.{n}": s for n, s in enumerate(shards)}}).encode()


SHARDS = {
    "model.safetensors.index.json": index_of("model-1-of-2.safetensors", "model-2-of-2.safetensors")
}
SHARDS |= {"model-1-of-2.safetensors": data(100_000), "model-2-of-2.safetensors": data(50_000)}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a hub that is down, and no patience."""
    for name in [n for n in os.environ if n.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    # huggingface_hub read these before this fixture could clear them.
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(download, "PAUSES_S", (0.01, 0.01))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@contextmanager
def one_line(*words: str) -> Iterator[None]:
    """A `CheckpointError` of one line with these words in it."""
    with pytest.raises(CheckpointError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    for word in words:
        assert word in message


class Watch(Progress):
    """Remembers the stages and where they were."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None, str]] = []
        self.positions: list[int] = []

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        self.stages.append((name, total, unit))
        yield lambda done, total=None: self.positions.append(done)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(code: str, **env: str) -> subprocess.Popen[str]:
    """Another Python, whose huggingface_hub sees the environment from the start."""
    pipe = subprocess.PIPE
    environment = os.environ | env
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


SECONDS = 120
"""How long anything is waited for."""


# --- Which files --------------------------------------------------------------------------------

ENCODEC = {"config.json": b'{"model_type": "encodec"}'}
T5 = {"config.json": b'{"model_type": "t5"}', "tokenizer.json": data(31), "spiece.model": data(32)}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(MUSICGEN, [*BESIDE, "model.safetensors"], id="musicgen-in-all-layouts"),
        pytest.param(
            BESIDE | SHARDS | TORCH | {"model-9-of-9.safetensors": b"?"},
            [*BESIDE, *SHARDS],
            id="shards-of-the-index-and-no-others",
        ),
        pytest.param(
            BESIDE | SHARDS | SAFETENSORS,
            [*BESIDE, "model.safetensors"],
            id="one-file-rather-than-shards",
        ),
        pytest.param(
            {"state_dict.bin": data(99), "README.md": b""}, ["state_dict.bin"], id="fine-tune"
        ),
        pytest.param(
            AUDIOCRAFT | TORCH | BESIDE | NEVER,
            ["config.json", "compression_state_dict.bin", "state_dict.bin"],
            id="audiocraft-rather-than-pytorch",
        ),
        pytest.param(BESIDE | TORCH | NEVER, [*BESIDE, "pytorch_model.bin"], id="pytorch"),
        pytest.param(
            {
                "config.json": MUSICGEN_CONFIG,
                "pytorch_model.bin.index.json": index_of("b.bin", "a.bin"),
                "a.bin": data(10),
                "b.bin": data(11),
            },
            ["config.json", "pytorch_model.bin.index.json", "a.bin", "b.bin"],
            id="pytorch-shards",
        ),
        pytest.param(
            ENCODEC | SAFETENSORS, ["config.json", "model.safetensors"], id="codec-of-mlx"
        ),
        pytest.param(
            ENCODEC | TORCH | {"preprocessor_config.json": b"{}"},
            ["config.json", "preprocessor_config.json", "pytorch_model.bin"],
            id="codec",
        ),
        pytest.param(
            T5
            | SAFETENSORS
            | {"flax_model.msgpack": b"", "rust_model.ot": b"", "onnx/encoder_model.onnx": b""}
            | {"tf_model.h5": b"", "pytorch_model.bin": b""},
            [*T5, "model.safetensors"],
            id="t5-base",
        ),
    ],
)
def test_one_layout_is_downloaded_and_nothing_twice(
    hub: FakeHub, files: dict[str, bytes], expected: list[str]
) -> None:
    hub.add("owner/name", files)
    folder = locate("owner/name")
    assert sorted(hub.fetched()) == sorted(expected)
    assert contents(folder) == {name: files[name] for name in expected}


def test_an_empty_file_is_there_too(hub: FakeHub) -> None:
    files = {"config.json": MUSICGEN_CONFIG, "generation_config.json": b""} | SAFETENSORS
    hub.add("owner/name", files)
    assert contents(locate("owner/name")) == files


def test_config_only_downloads_the_config_and_later_the_rest_without_it(hub: FakeHub) -> None:
    hub.add("owner/name", MUSICGEN)
    folder = locate("owner/name", CONFIG_ONLY)
    assert hub.fetched() == ["config.json"]
    assert find_local("owner/name", CONFIG_ONLY) == folder
    assert find_local("owner/name") is None
    assert locate("owner/name") == folder
    assert hub.fetched().count("config.json") == 1


@pytest.mark.parametrize(
    "files",
    [
        NEVER,
        {"model.safetensors": b"without a config"},
        BESIDE | {"model.safetensors.index.json": b"not JSON"},
        BESIDE | {"model.safetensors.index.json": b'{"weight_map": {"a": "../../x"}}'},
    ],
)
def test_a_repository_without_a_checkpoint_is_refused_with_the_files_that_are_needed(
    hub: FakeHub, files: dict[str, bytes]
) -> None:
    hub.add("owner/name", files)
    with one_line("owner/name", "model.safetensors", "state_dict.bin", "pytorch_model.bin"):
        locate("owner/name")


def test_a_repository_that_is_an_adapter_says_what_to_do(hub: FakeHub) -> None:
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": data(90)}
    hub.add("owner/adapter", files)
    with one_line("owner/adapter", "PEFT", "--adapter"):
        locate("owner/adapter")


def test_a_shard_that_is_missing_at_the_hub_is_named(hub: FakeHub) -> None:
    hub.add("owner/name", {n: d for n, d in (BESIDE | SHARDS).items() if "-2-of-2" not in n})
    with one_line("owner/name", "model-2-of-2.safetensors"):
        locate("owner/name")


def test_t5_cached_without_its_tokenizer_is_completed(hub: FakeHub) -> None:
    hub.add("t5-base", T5 | SAFETENSORS)
    (locate("t5-base") / "tokenizer.json").unlink()
    assert find_local("t5-base") is None
    assert contents(locate("t5-base")) == T5 | SAFETENSORS


# --- Names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["absolute", "relative", "dot", "home"])
def test_a_folder_is_taken_as_it_is(
    home: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    folder = home / "owner" / "name"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    names = {"absolute": str(folder), "relative": "owner/name", "dot": "./owner", "home": "~/owner"}
    found = locate(names[spelling])
    assert found.resolve() in (folder, folder.parent)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/no/such/folder", ["no folder", "/no/such/folder"]),
        ("./none", ["no folder"]),
        ("~/none", ["no folder"]),
        ("~nobody-of-that-name/none", ["no folder"]),
        ("a/b/c", ["no folder"]),
        ("a-file.bin", ["a-file.bin", "not a folder"]),
        ("", ["built-in", "folder", "repository"]),
        ("two words", ["built-in", "folder", "repository"]),
        ("owner/na--me", ["built-in", "folder", "repository"]),
        ("owner/-name", ["built-in", "folder", "repository"]),
        ("owner/name\n", ["built-in", "folder", "repository"]),
        ("nul\0", ["built-in", "folder", "repository"]),
        ("n" * 150, ["built-in", "folder", "repository"]),
        ("https://huggingface.co/owner/name", ["address", "'owner/name'"]),
        ("https://huggingface.co/owner/name/tree/main", ["address", "'owner/name'"]),
        ("http://hf.co/owner/name/resolve/main/state_dict.bin?download=true", ["'owner/name'"]),
        ("huggingface.co/owner/name.git", ["address", "'owner/name'"]),
        ("hf://owner/name@main", ["address", "'owner/name'"]),
        ("git@hf.co:owner/name", ["address", "'owner/name'"]),
        ("https://huggingface.co/t5-base#files", ["address", "'t5-base'"]),
        ("https://huggingface.co/t5-base/tree/main", ["address", "'t5-base'"]),
        ("https://huggingface.co/datasets/owner/name", ["not one of a model"]),
        ("https://example.com/model.zip", ["address", "download it"]),
        ("facebook/musicgen-style", ["style", "MERT", "facebook/musicgen-melody"]),
        ("facebook/magnet-small-10secs", ["MAGNeT", "masked"]),
        ("facebook/audio-magnet-medium", ["MAGNeT", "audiogen-medium"]),
        ("facebook/jasco-chords-drums-400M", ["flow-matching", "MusicGen"]),
        ("facebook/melodyflow-t24-30secs", ["flow-matching"]),
        ("models--owner--name", ["cache", "'owner/name'"]),
        ("checkpoint.th", ["training checkpoint", "folder"]),
    ],
)
def test_a_name_that_cannot_be_found_is_one_clear_line(
    home: Path, hub: FakeHub, name: str, words: list[str]
) -> None:
    (home / "a-file.bin").write_bytes(b"x")
    (home / "checkpoint.th").write_bytes(b"x")
    with one_line(*words):
        locate(name)
    assert find_local(name) is None
    assert hub.requests == []


def test_the_built_in_checkpoint_is_a_folder_of_the_installation_or_says_that_there_is_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.resources, "files", lambda package: home)
    with one_line("built-in"):
        locate(BUILT_IN)
    folder = home / "demo" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(MUSICGEN_CONFIG)
    assert locate(BUILT_IN) == find_local(BUILT_IN) == folder
    assert [(m.name, m.path, m.complete) for m in local_models()] == [(BUILT_IN, folder, True)]


def test_the_catalogue_holds_names_that_can_be_located() -> None:
    names = [name for family in CATALOGUE.values() for name in family]
    assert len(names) == len(set(names)) == 25
    for name in [*names, *DEFAULT_DESCRIPTIONS]:
        with one_line("cannot reach"):
            locate(name)


# --- The cache ----------------------------------------------------------------------------------


def test_what_is_cached_needs_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/name", MUSICGEN)
    folder = locate("owner/name")
    asked = len(hub.requests)
    assert locate("owner/name") == find_local("owner/name") == folder
    assert len(hub.requests) == asked
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert locate("owner/name") == folder


def test_huggingface_hub_finds_what_segue_downloaded(home: Path, hub: FakeHub) -> None:
    hub.add("owner/name", MUSICGEN)
    folder = locate("owner/name")
    cache = home / "hf" / "hub"
    offline = huggingface_hub.snapshot_download(
        "owner/name", cache_dir=cache, local_files_only=True
    )
    assert Path(offline) == folder
    [repository] = huggingface_hub.scan_cache_dir(cache).repos
    [revision] = repository.revisions
    assert revision.refs == {"main"}
    assert {file.file_name for file in revision.files} == {*BESIDE, "model.safetensors"}


def test_segue_finds_what_huggingface_hub_downloaded(hub: FakeHub) -> None:
    hub.add("owner/name", BESIDE | SHARDS)
    *first, last = BESIDE | SHARDS
    for files in (first, [last]):
        assert find_local("owner/name") is None
        code = f"import huggingface_hub as h\nfor f in {files}: h.hf_hub_download('owner/name', f)"
        assert run(code, HF_HUB_DISABLE_TELEMETRY="1").wait() == 0
    asked = len(hub.requests)
    assert contents(locate("owner/name")) == BESIDE | SHARDS
    assert len(hub.requests) == asked


def test_an_older_commit_that_is_whole_is_used_before_a_newer_one_that_is_not(
    home: Path, hub: FakeHub
) -> None:
    hub.add("owner/name", MUSICGEN)
    whole = locate("owner/name")
    newer = whole.with_name("f" * 40)
    newer.mkdir()
    (newer / "config.json").write_bytes(MUSICGEN_CONFIG)
    (whole.parent.parent / "refs" / "main").write_text(newer.name)
    assert locate("owner/name") == whole


def test_a_disk_without_links_serves_too(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    hub.add("owner/name", MUSICGEN)
    hub.answer("model.safetensors", 403)
    with one_line("owner/name"):
        locate("owner/name")
    assert set(contents(locate("owner/name"))) == {*BESIDE, "model.safetensors"}
    assert sorted(hub.fetched()) == sorted([*BESIDE, "model.safetensors", "model.safetensors"])


def test_local_models_are_the_musicgen_checkpoints_of_the_cache(hub: FakeHub) -> None:
    hub.add("facebook/whole", MUSICGEN)
    hub.add("thepatch/fine-tune", AUDIOCRAFT)
    hub.add("facebook/encodec_32khz", ENCODEC | SAFETENSORS)
    hub.add("t5-base", T5 | SAFETENSORS)
    hub.add("facebook/shards", BESIDE | SHARDS)
    folders = {name: locate(name) for name in hub.repositories}
    (folders["facebook/shards"] / "model-2-of-2.safetensors").unlink()

    models = {model.name: model for model in local_models() if model.name != BUILT_IN}
    assert set(models) == {"facebook/whole", "facebook/shards", "thepatch/fine-tune"}
    whole = models["facebook/whole"]
    assert (whole.complete, whole.missing, whole.path) == (True, (), folders["facebook/whole"])
    assert whole.size_bytes == sum(map(len, (BESIDE | SAFETENSORS).values()))
    shards = models["facebook/shards"]
    assert (shards.complete, shards.missing) == (False, ("model-2-of-2.safetensors",))


def test_a_checkpoint_without_read_permission_is_listed_as_not_usable(
    home: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared cache, with a snapshot that only its owner may enter."""
    hub.add("facebook/musicgen-small", MUSICGEN)
    hub.add("owner/other", MUSICGEN)
    small, other = locate("facebook/musicgen-small"), locate("owner/other")
    for folder in [*home.parents, home, *home.rglob("*")]:
        if os.geteuid() == 0 and folder.is_dir() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    small.chmod(0)
    other.chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        found = {m.name: m for m in local_models() if m.name != BUILT_IN}
        assert find_local("facebook/musicgen-small") is None
    finally:
        os.seteuid(os.getuid())
        small.chmod(0o755)
        other.chmod(0o755)
    assert set(found) == {"facebook/musicgen-small"}
    assert not found["facebook/musicgen-small"].complete


def test_local_models_show_a_download_that_has_only_begun(hub: FakeHub) -> None:
    name = "thepatch/hoenn_lofi"
    hub.add(name, {"state_dict.bin": data(200_000)})
    break_off(hub, name, "state_dict.bin", 70_000)
    [model] = [model for model in local_models() if model.name != BUILT_IN]
    assert (model.name, model.complete, model.size_bytes) == (name, False, 70_000)
    assert "state_dict.bin" in model.missing[0]


# --- Without the hub ----------------------------------------------------------------------------


def test_a_disk_that_fills_up_is_one_line_and_what_came_is_gone_on_with(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota, or somebody else's files: there was room when it began."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=9e9))
    hub.add("me/model", AUDIOCRAFT | {"config.json": MUSICGEN_CONFIG})
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setenv("HF_HOME", str(disk))
        filler = fill(disk, leave=100_000)
        with one_line("cannot store me/model", str(disk), "No space left on device"):
            locate("me/model")
        assert not local_models()[-1].complete
        filler.unlink()
        folder = locate("me/model")
        assert contents(folder)["state_dict.bin"] == AUDIOCRAFT["state_dict.bin"]
        assert hub.requests[-1].range is not None
        assert not list(disk.rglob("*.part"))


def test_a_token_that_is_not_ours_to_read_is_none(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed() -> str:
        raise PermissionError(13, "Permission denied", "/home/somebody/token")

    monkeypatch.setattr(download, "get_token", closed)
    hub.add("me/model", MUSICGEN)
    assert locate("me/model").is_dir()


def test_a_hub_that_is_down_is_one_line() -> None:
    with one_line("cannot reach http://127.0.0.1:1", "owner/name is not in the cache"):
        locate("owner/name")


def test_offline_is_one_line_and_makes_no_request(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/name", MUSICGEN)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with one_line("HF_HUB_OFFLINE", "owner/name is not in the cache"):
        locate("owner/name")
    assert hub.requests == []


def test_without_the_hub_a_missing_shard_is_named_and_with_it_fetched(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/name", BESIDE | SHARDS)
    locate("owner/name").joinpath("model-2-of-2.safetensors").resolve().unlink()
    hub.requests.clear()
    with monkeypatch.context() as offline:
        offline.setenv("HF_HUB_OFFLINE", "1")
        with one_line("owner/name", "model-2-of-2.safetensors"):
            locate("owner/name")
    with monkeypatch.context() as down:
        down.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
        with one_line("cannot reach", "owner/name", "model-2-of-2.safetensors"):
            locate("owner/name")
    assert contents(locate("owner/name")) == BESIDE | SHARDS
    assert hub.fetched() == ["model-2-of-2.safetensors"]


def test_a_portal_in_the_way_is_one_line(hub: FakeHub) -> None:
    hub.portal = True
    with one_line(hub.url, "owner/name", "HF_ENDPOINT"):
        locate("owner/name")


@pytest.mark.parametrize("endpoint", ["nonsense", "http://[", "http://127.0.0.1:99999", "ftp://x"])
def test_an_endpoint_that_is_none_is_one_line(
    monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with one_line(endpoint):
        locate("owner/name")


# --- Refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "hf_of_somebody_else"])
def test_an_unknown_or_private_repository_is_one_line_that_speaks_of_the_token(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    hub.add("owner/private", MUSICGEN, token="hf_right")
    monkeypatch.setenv("HF_TOKEN", token)
    for name in ("owner/private", "owner/unknown"):
        with one_line(name, "HF_TOKEN", "404" if token else "401"):
            locate(name)


def test_a_token_opens_a_private_repository_and_stays_with_the_hub(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("owner/private", MUSICGEN, token="hf_right")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    locate("owner/private")
    assert {request.token for request in hub.requests if not request.at_cdn} == {"hf_right"}
    assert {request.token for request in hub.requests if request.at_cdn} == {None}


def test_a_token_that_is_none_is_one_line_that_does_not_show_it(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for token in ("hf_secret\x07", "hf_secretä"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(CheckpointError, match="HF_TOKEN") as caught:
            locate("owner/name")
        assert "secret" not in str(caught.value)


def test_a_gated_repository_says_to_accept_its_terms(hub: FakeHub) -> None:
    hub.add("owner/gated", MUSICGEN, gated=True)
    with one_line("owner/gated", "terms", "HF_TOKEN"):
        locate("owner/gated")


def test_a_repository_that_moved_is_found_under_its_old_name(hub: FakeHub) -> None:
    hub.add("google-t5/t5-base", T5 | SAFETENSORS)
    hub.renamed["t5-base"] = "google-t5/t5-base"
    assert contents(locate("t5-base")) == T5 | SAFETENSORS
    assert find_local("t5-base") is not None


# --- Transfers that go wrong --------------------------------------------------------------------


def break_off(hub: FakeHub, name: str, file: str, after: int) -> None:
    """Make a download of `name` end for good after that many bytes of `file`."""
    hub.drop(file, after)
    for _ in range(len(download.PAUSES_S) + 1):
        hub.answer(file, 503)
    with one_line(name, file, str(after)):
        locate(name)


def ranges(hub: FakeHub, file: str) -> list[str | None]:
    return [r.range for r in hub.requests if r.file == file and r.at_cdn]


def test_a_dropped_connection_is_resumed_at_the_byte_where_it_broke(hub: FakeHub) -> None:
    hub.add("owner/name", MUSICGEN)
    hub.drop("model.safetensors", 100_000)
    hub.drop("model.safetensors", 50_000)
    hub.answer("model.safetensors", 503)
    assert contents(locate("owner/name")) == BESIDE | SAFETENSORS
    asked = [None, "bytes=100000-", "bytes=150000-", "bytes=150000-"]
    assert ranges(hub, "model.safetensors") == asked


def test_an_interrupted_download_is_not_complete_and_the_next_run_resumes_it(
    home: Path, hub: FakeHub
) -> None:
    hub.add("owner/name", MUSICGEN)
    break_off(hub, "owner/name", "model.safetensors", 100_000)
    assert find_local("owner/name") is None
    hub.requests.clear()
    watch = Watch()
    assert contents(locate("owner/name", progress=watch)) == BESIDE | SAFETENSORS
    assert hub.fetched() == ["model.safetensors"]
    assert ranges(hub, "model.safetensors") == ["bytes=100000-"]
    here = sum(map(len, BESIDE.values())) + 100_000
    assert here in watch.positions
    assert not list(home.glob("hf/hub/*/blobs/*.incomplete"))


def test_a_part_that_an_older_huggingface_hub_left_is_gone_on_with(
    home: Path, hub: FakeHub
) -> None:
    hub.add("owner/name", MUSICGEN)
    blob = locate("owner/name").joinpath("model.safetensors").resolve()
    os.truncate(blob.rename(blob.with_name(f"{blob.name}.incomplete")), 12_345)
    hub.requests.clear()
    locate("owner/name")
    assert ranges(hub, "model.safetensors") == ["bytes=12345-"]


def test_a_server_without_ranges_is_read_from_the_start_and_the_bar_never_moves_back(
    hub: FakeHub,
) -> None:
    hub.add("owner/name", MUSICGEN)
    hub.serves_ranges = False
    hub.drop("model.safetensors", 100_000)
    hub.drop("model.safetensors", 150_000)
    watch = Watch()
    assert contents(locate("owner/name", progress=watch)) == BESIDE | SAFETENSORS
    assert watch.positions == sorted(watch.positions)


def test_silence_is_a_broken_connection(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    hub.add("owner/name", MUSICGEN)
    hub.stall("model.safetensors", 100_000)
    assert contents(locate("owner/name")) == BESIDE | SAFETENSORS


@pytest.mark.parametrize(
    "sent", [data(299_999), data(300_001), data(10), data(299_998) + b"??"], ids=len
)
def test_content_with_another_hash_is_never_stored(home: Path, hub: FakeHub, sent: bytes) -> None:
    hub.add("owner/name", MUSICGEN)
    for _ in range(4):
        hub.send_instead("model.safetensors", sent)
    with one_line("owner/name", "model.safetensors"):
        locate("owner/name")
    assert find_local("owner/name") is None
    assert not list(home.glob("hf/hub/*/blobs/*.incomplete"))
    hub.clear_faults()
    assert contents(locate("owner/name")) == BESIDE | SAFETENSORS


def test_a_blob_that_was_cut_short_is_fetched_again(hub: FakeHub) -> None:
    hub.add("owner/name", BESIDE | SHARDS)
    folder = locate("owner/name")
    (folder / "model-1-of-2.safetensors").unlink()
    os.truncate(folder / "model-2-of-2.safetensors", 10)
    assert contents(locate("owner/name")) == BESIDE | SHARDS


def test_a_disk_that_is_too_small_is_reported_before_the_first_byte(hub: FakeHub) -> None:
    hub.add("owner/name", MUSICGEN, announced={"model.safetensors": 10**18})
    with one_line("owner/name", "1000000000.0 GB", "HF_HOME"):
        locate("owner/name")
    assert hub.fetched() == []


def test_a_disk_that_fills_up_is_one_line_and_the_part_stays(home: Path, hub: FakeHub) -> None:
    hub.add("owner/name", MUSICGEN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        with one_line("cannot store owner/name", str(home / "hf" / "hub"), "too large"):
            locate("owner/name")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert find_local("owner/name") is None
    assert contents(locate("owner/name")) == BESIDE | SAFETENSORS
    assert ranges(hub, "model.safetensors")[-1] == "bytes=150000-"


def test_a_cache_that_cannot_be_written_is_one_line(
    home: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "in-the-way").write_bytes(b"")
    monkeypatch.setenv("HF_HOME", str(home / "in-the-way"))
    hub.add("owner/name", MUSICGEN)
    with one_line("cannot store owner/name", "in-the-way"):
        locate("owner/name")


def test_ctrl_c_ends_it_at_once_and_the_next_run_resumes(home: Path, hub: FakeHub) -> None:
    hub.add("owner/name", MUSICGEN)
    hub.stall("model.safetensors", 100_000)
    # Whoever waits for the hub to go on waits longer than this test.
    code = "from segue.checkpoints import download, hub; download.TIMEOUT_S = 3600.0"
    process = run(f"{code}; hub.locate('owner/name')")
    until = time.monotonic() + SECONDS
    while sum(p.stat().st_size for p in home.glob("hf/hub/*/blobs/*.incomplete")) < 90_000:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert find_local("owner/name") is None
    assert contents(locate("owner/name")) == BESIDE | SAFETENSORS
    assert re.fullmatch(r"bytes=\d{5,6}-", ranges(hub, "model.safetensors")[-1] or "")


def test_whoever_watches_may_stop_it(hub: FakeHub) -> None:
    class StoppedError(Exception):
        pass

    class Stop(Progress):
        @contextmanager
        def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
            def advance(done: int, total: int | None = None) -> None:
                if done > 150_000:
                    raise StoppedError

            yield advance

    hub.add("owner/name", MUSICGEN)
    with pytest.raises(StoppedError):
        locate("owner/name", progress=Stop())
    assert contents(locate("owner/name")) == BESIDE | SAFETENSORS
    assert ranges(hub, "model.safetensors")[-1] is not None


def test_two_that_want_the_same_download_it_once(hub: FakeHub) -> None:
    hub.add("owner/name", MUSICGEN)
    hub.pace_s = 0.005
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(locate("owner/name"))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert contents(found[0]) == BESIDE | SAFETENSORS
    assert sorted(hub.fetched()) == sorted([*BESIDE, "model.safetensors"])


# --- What is seen -------------------------------------------------------------------------------


def test_progress_counts_every_byte_as_it_comes_and_ends_at_the_total(hub: FakeHub) -> None:
    hub.add("owner/name", BESIDE | SHARDS)
    hub.drop("model-1-of-2.safetensors", 60_000)
    watch = Watch()
    locate("owner/name", progress=watch)
    total = sum(map(len, (BESIDE | SHARDS).values()))
    assert watch.stages == [("download owner/name", total, "B")]
    assert watch.positions == sorted(watch.positions)
    assert watch.positions[-1] == total
    before = sum(map(len, BESIDE.values())) + len(SHARDS["model.safetensors.index.json"])
    assert sum(before < done < before + 100_000 for done in watch.positions) >= 2


def test_what_is_cached_shows_no_progress(hub: FakeHub) -> None:
    hub.add("owner/name", MUSICGEN)
    locate("owner/name")
    watch = Watch()
    locate("owner/name", progress=watch)
    assert watch.stages == []


def test_nothing_but_progress_reaches_the_terminal(hub: FakeHub) -> None:
    hub.add("owner/name", MUSICGEN)
    hub.drop("model.safetensors", 100_000)
    process = run("import segue.checkpoints.hub; segue.checkpoints.hub.locate('owner/name')")
    assert process.communicate(timeout=SECONDS) == ("", "")
    assert process.returncode == 0


def test_a_checkpoint_that_is_here_is_found_without_the_network_libraries(home: Path) -> None:
    code = (
        "import sys; from segue.checkpoints import hub; "
        "hub.locate('.'); print('httpx2' in sys.modules)"
    )
    assert run(code).communicate(timeout=SECONDS)[0] == "False\n"
