"""What commands make, stored in S3."""

from __future__ import annotations

import io
import json
import os

import pytest
import soundfile

from segue.checkpoints.opening import open_checkpoint
from segue.cli import main
from segue.storage import Storage

SHORT = ("--output-seconds", "0.2", "--seed", "1", "--no-progress", "--engine", "openvino")


def test_takes_and_their_report_are_stored(bucket, toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    to = ["-o", bucket.address("out/x.wav"), "--report-json", bucket.address("out/x.json")]
    assert main(["generate", "--model", str(toy), *SHORT, "--variations", "2", *to]) == 0
    assert sorted(bucket.objects()) == ["out/x-1.wav", "out/x-2.wav", "out/x.json"]
    report = json.loads(bucket.get("out/x.json"))
    assert report["outputs"][0]["path"] == bucket.address("out/x-1.wav")
    assert soundfile.info(io.BytesIO(bucket.get("out/x-1.wav"))).frames == 6400
    assert main(["continue", "no-such-file.wav", "--model", str(toy), *to]) == 2
    assert not list(tmp_path.iterdir())


def test_a_bucket_that_is_not_there_is_known_before_anything_long(endpoint, tmp_path, capsys):
    assert main(["generate", "--model", "no-such-model", "-o", "s3://no-such-bucket/x.wav"]) == 2
    said = capsys.readouterr().err
    assert said == "segue: s3://no-such-bucket: there is no such bucket or folder\n"


def test_a_quantized_checkpoint_goes_to_s3_and_is_used_from_there(bucket, cache, toy, capsys):
    address = bucket.address("models/q8")
    words = ["quantize", str(toy), address, "--recipe", "q8-nearest", "--no-progress"]
    assert main(words) == 0
    assert open_checkpoint(address).config.quantization is not None
    capsys.readouterr()
    assert main(words) == 2
    assert capsys.readouterr().err == f"segue: {address}: exists already; name a new folder\n"


@pytest.mark.slow
def test_a_large_file_is_stored_in_parts_and_seen_when_it_is_whole(bucket, tmp_path):
    content = os.urandom(1 << 20) * 120
    (tmp_path / "large.wav").write_bytes(content)
    Storage(bucket.address("out")).put(tmp_path / "large.wav", "large.wav")
    assert bucket.get("out/large.wav") == content
    assert bucket.uploads() == 0
