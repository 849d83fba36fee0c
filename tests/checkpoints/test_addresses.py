"""Checkpoints and adapters by address, from a store in memory and a faulty one."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pytest
import soundfile
from fsspec.implementations.memory import MemoryFileSystem
from safetensors.numpy import save_file

import segue
from segue.checkpoints import hub
from segue.checkpoints.adapters import AdapterChoice
from segue.checkpoints.files import CONFIG_ONLY
from segue.checkpoints.opening import open_checkpoint
from segue.cli import main, make_parser
from segue.errors import CheckpointError
from segue.progress import Progress
from segue.service.adapters import adapters_in, located
from segue.service.command import settings_of
from segue.service.jobs.models import ModelList
from segue.storage import Storage


class Faulty(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store whose answers a test decides."""

    protocol = "faulty"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    cachable = False
    before_read = staticmethod(lambda path: None)
    before_list = staticmethod(lambda path: None)
    read: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("faulty://", "memory://"))

    def ls(self, path, detail=True, **options):
        Faulty.before_list(path)
        return super().ls(path, detail, **options)

    def cat_ranges(self, paths, *arguments, **options):
        Faulty.before_read(paths[0])
        Faulty.read.append(paths[0].rpartition("/")[2])
        return super().cat_ranges(paths, *arguments, **options)


fsspec.register_implementation("faulty", Faulty, clobber=True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(Faulty, "read", [])
    Faulty.store.clear()
    MemoryFileSystem.store.clear()
    return tmp_path / "cache" / "segue" / "storage"


def put(address: str, files: dict[str, bytes]) -> str:
    fs, path = fsspec.core.url_to_fs(address)
    for name, content in files.items():
        fs.pipe_file(f"{path}/{name}", content)
    return address


@pytest.fixture
def lora(tmp_path):
    """An adapter of the toy checkpoint."""
    folder = tmp_path / "lora"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    values = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    save_file(
        {f"{QUERY}.lora_A.weight": values.T.copy(), f"{QUERY}.lora_B.weight": values},
        folder / "adapter_model.safetensors",
    )
    return folder


def upload(address: str, folder: Path) -> str:
    return put(address, {path.name: path.read_bytes() for path in folder.iterdir()})


QUERY = "base_model.model.decoder.model.decoder.layers.0.self_attn.q_proj"
TINY = {"config.json": b"{}", "model.safetensors": b"w" * 1000, "README.md": b"hello"}


def test_the_library_loads_an_address_once_and_with_what_is_needed_alone(toy, cache):
    address = upload("faulty://bucket/models/toy", toy)
    put(address, {"optimizer.bin": b"of no use"})
    model = segue.load(f"{address}/", engine="openvino")
    assert model.config == open_checkpoint(str(toy)).config
    (folder,) = cache.glob("*/*/toy")
    assert "optimizer.bin" not in {path.name for path in folder.iterdir()}
    read = len(Faulty.read)
    assert hub.locate(address) == hub.find_local(address) == folder
    assert len(Faulty.read) == read > 0


def test_a_command_takes_addresses_for_model_and_adapter(toy, lora, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    upload("memory://bucket/toy", toy)
    upload("memory://bucket/lora", lora)
    words = ["generate", "--output-seconds", "0.2", "--seed", "1", "--no-progress"]
    words += ["--engine", "openvino"]
    remote = ["--model", "memory://bucket/toy", "--adapter", "memory://bucket/lora:0.5"]
    local = ["--model", str(toy), "--adapter", f"{lora}:0.5"]
    assert main([*words, *remote, "-o", "there.wav"]) == 0
    assert main([*words, *local, "-o", "here.wav"]) == 0
    there, here = (soundfile.read(f"{where}.wav")[0] for where in ("there", "here"))
    assert np.array_equal(there, here)


def test_what_was_changed_is_fetched_again(cache):
    address = put("faulty://bucket/model", TINY)
    first = hub.locate(address)
    put(address, {"model.safetensors": b"v" * 1000})
    second = hub.locate(address)
    assert (first / "model.safetensors").read_bytes() == b"w" * 1000  # who uses it keeps it
    assert (second / "model.safetensors").read_bytes() == b"v" * 1000
    put(address, {"README.md": b"changed"})
    assert hub.locate(address) == second


def test_an_interrupted_fetch_goes_on_where_it_was(cache, monkeypatch):
    address = put("faulty://bucket/model", {"config.json": b"{}", "model.safetensors": b"ab" * 50})
    monkeypatch.setattr("segue.storage.folder.RANGE_BYTES", 5)
    monkeypatch.setattr("segue.storage.folder.RANGES", 2)
    times = iter(range(100))

    def fail(path):
        if path.endswith(".safetensors") and next(times) == 3:
            raise ConnectionError("reset by peer")

    monkeypatch.setattr(Faulty, "before_read", fail)
    with pytest.raises(CheckpointError, match=r"does not answer.*reset by peer.*no copy"):
        hub.locate(address)
    assert hub.find_local(address) is None
    (begun,) = cache.glob("*/.*.part/model/model.safetensors.incomplete")
    assert begun.read_bytes() == b"ab" * 15
    Faulty.read.clear()
    folder = hub.locate(address)
    assert (folder / "model.safetensors").read_bytes() == b"ab" * 50
    assert Faulty.read == ["model.safetensors"] * 7  # 70 bytes, ten at a time
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_what_changes_while_it_is_fetched_is_begun_anew(cache, monkeypatch):
    address = put("faulty://bucket/model", TINY)
    replaced = []

    def replace(path):
        if path.endswith(".safetensors") and not replaced:
            replaced.append(path)
            put(address, {"model.safetensors": b"new", "config.json": b"{ }"})

    monkeypatch.setattr(Faulty, "before_read", replace)
    with pytest.raises(CheckpointError, match="another number of bytes"):
        hub.locate(address)
    replaced.clear()
    put(address, TINY)
    monkeypatch.setattr(Faulty, "before_read", lambda path: put(address, {"config.json": b"[]"}))
    with pytest.raises(CheckpointError, match="is changed while it is fetched; try again later"):
        hub.locate(address)
    monkeypatch.setattr(Faulty, "before_read", lambda path: None)
    assert (hub.locate(address) / "config.json").read_bytes() == b"[]"
    assert not list(cache.glob("*/.*.part"))


def test_two_at_once_fetch_once(cache, monkeypatch):
    address = put("faulty://bucket/model", TINY)
    inside, waiting = threading.Event(), threading.Event()

    def wait(path):
        inside.set()
        assert waiting.wait(60)

    class Watched(Progress):
        def stage(self, name, total=None, unit=""):
            if name.startswith("wait"):
                waiting.set()
            return super().stage(name, total, unit)

    monkeypatch.setattr(Faulty, "before_read", wait)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(hub.locate(address, progress=Watched())))
        for _ in range(2)
    ]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert len(set(found)) == 1
    assert sorted(Faulty.read) == ["config.json", "model.safetensors"]


def test_without_the_store_the_last_copy_is_used(cache, monkeypatch, caplog):
    address = put("faulty://bucket/model", TINY)
    folder = hub.locate(address)

    def gone(path):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(Faulty, "before_list", gone)
    with caplog.at_level(logging.WARNING):
        assert hub.locate(address, CONFIG_ONLY) == folder
    assert "no route to host" in caplog.text
    with pytest.raises(CheckpointError, match=r"faulty://bucket/other.*no copy of it here"):
        hub.locate("faulty://bucket/other")


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("memory://bucket/none", "there is nothing at this address"),
        ("memory://bucket/empty", r"holds nothing that segue reads; it looks for model\.safet"),
        ("memory://bucket/lora", "a PEFT adapter"),
        ("memory://bucket/half", r"is not whole: no model-2\.safetensors"),
        ("memory://bucket/empty/a.txt", "a file; name the folder"),
        ("nothing://bucket/model", "no kind of storage is called nothing"),
        ("memory://bucket/x::memory://y", "a chain of addresses"),
        ("memory://bucket/../x", r"no \. and no \.\."),
        ("s3://key:secret@bucket/x", "leave it out"),
        ("file:///nowhere/at/all", "there is no folder"),
    ],
)
def test_what_cannot_be_used_is_one_line(address, line, cache):
    put("memory://bucket/empty", {"a.txt": b"x"})
    put("memory://bucket/lora", {"adapter_config.json": b"{}", "adapter_model.bin": b"x"})
    index = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    half = {"config.json": b"{}", "model.safetensors.index.json": index}
    put("memory://bucket/half", {**half, "model-1.safetensors": b"x"})
    with pytest.raises(CheckpointError, match=line) as caught:
        hub.locate(address)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not list(cache.glob("*/*"))


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch):
    def missing(protocol):
        raise ImportError("Install a package to access it")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    for scheme, extra in (("s3", "s3"), ("gs", "gcs")):
        with pytest.raises(CheckpointError, match=rf'pip install "segue\[{extra}\]"'):
            hub.locate(f"{scheme}://bucket/model")
    with pytest.raises(CheckpointError, match="Install a package to access it"):
        hub.locate("abfs://bucket/model")


def test_file_addresses_are_folders_of_this_machine(toy, cache):
    assert hub.locate(toy.as_uri()) == hub.find_local(f"{toy.as_uri()}/") == toy
    assert not cache.exists()


def test_sizes_say_what_is_missing(cache):
    address = put("memory://bucket/model", TINY)
    assert hub.size(address) == (1002, 1002)
    hub.locate(address)
    assert hub.size(address) == (1002, 0)


def options_of_serve(*words: str):
    return make_parser().parse_args(["serve", *words])


def test_a_service_lists_models_and_adapters_of_a_store(toy, lora, tmp_path):
    upload("memory://shelf/models/toy-a", toy)
    upload("memory://shelf/models/toy-b", toy)
    put("memory://shelf/models/notes", {"a.txt": b"x"})
    upload("memory://shelf/adapters/lora", lora)
    settings = settings_of(
        options_of_serve(
            *("--models", "memory://shelf/models/", "--adapters", "memory://shelf/adapters"),
            *("--state-dir", str(tmp_path / "state"), "--engine", "openvino"),
        )
    )
    models = ModelList(settings.models)
    own = [model for model in models.all() if model.path.startswith("local/")]
    assert [model.path for model in own] == ["local/toy-a", "local/toy-b"]
    assert own[0].missing == ("memory://shelf/models/toy-a",)
    assert own[0].size == "small"
    hub.locate(own[0].source)
    here = models.find("local/toy-a")
    assert here.missing == ()
    assert here.stored_bytes() == here.bytes
    known = adapters_in(settings.adapters_folder)
    (choice,) = located([AdapterChoice("lora", 0.5)], known)
    assert choice == AdapterChoice("memory://shelf/adapters/lora", 0.5)


@pytest.mark.parametrize("option", ["--models", "--adapters"])
def test_a_service_does_not_start_with_an_address_of_nothing(option, tmp_path, capsys):
    words = ["serve", option, "memory://shelf/none", "--state-dir", str(tmp_path), "--port", "0"]
    words += ["--engine", "openvino"]
    assert main(words) == 2
    assert "memory://shelf/none: there is nothing at this address" in capsys.readouterr().err


def test_a_file_is_stored_whole_or_not_at_all(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"music")
    Storage("memory://bucket/out").put(tmp_path / "a.wav", "b.wav")
    assert Storage("memory://bucket/out").read("b.wav") == b"music"
    Storage("memory://bucket/out").remove("b.wav")
    Storage("memory://bucket/out").remove("b.wav")
    assert not fsspec.filesystem("memory").exists("/bucket/out/b.wav")
