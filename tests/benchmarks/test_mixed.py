"""Different requests in one batch beside takes of one, at toy size."""

import json
import sys

from benchmarks.gpu import mixed


def test_requests_that_join_and_leave_are_measured_and_compared(tmp_path, monkeypatch, capsys):
    out = tmp_path / "mixed.json"
    arguments = ["--shape", "toy", "--requests", "10", "--rows", "4", "--prompt", "0.2"]
    arguments += ["--seconds", "0.8", "--rounds", "1", "--compare", "3", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["mixed", *arguments])
    mixed.main()
    found = json.loads(out.read_text())
    (once,) = found["rounds"]
    assert once["takes"]["rows"] == once["mixed"]["rows"] == 4
    assert once["mixed"]["requests"] == 10
    assert 1 <= once["mixed"]["mean rows"] <= 4
    assert once["mixed"]["of the takes' rows a second"] > 0
    assert found["alone"]["equal"] == found["alone"]["of"] >= 3
    assert json.loads(capsys.readouterr().out.splitlines()[0])["round"] == 0
