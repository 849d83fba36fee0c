"""`segue doctor`: what is here, what is wrong, and whether the engines compute what they should."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest

from segue import cli
from segue.doctor import checks, self_test

from ..caches import use_cache


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cache(tmp_path / "XDG_CACHE_HOME", monkeypatch)
    for name in ("XDG_STATE_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize("engine", ["mlx", "openvino"])
def test_an_engine_gives_the_codes_that_are_expected(engine: str) -> None:
    found = self_test.run(engine)
    assert found.error is None
    assert found.first_other_frame is None
    assert (found.prompt_codes, found.likeliest_tokens) == (1, 1)
    assert found.passed


def test_other_codes_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    right = self_test.expected_codes()
    wrong = np.where(np.arange(right.shape[1]) % 10 == 0, (right + 1) % 2048, right)
    monkeypatch.setattr(self_test, "expected_codes", lambda: wrong)
    report = checks.Report()
    checks.add_self_test(report, "openvino")
    assert not report.self_tests[0]["passed"]
    assert "computes other codes" in report.problems[0]


def test_an_engine_that_does_not_run_is_a_problem_and_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: object, **__: object) -> None:
        raise ImportError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(self_test, "load", load)
    report = checks.Report()
    checks.add_self_test(report, "mlx")
    assert report.problems == [
        "mlx does not run: ImportError: libcuda.so.1: cannot open shared object file"
    ]


def test_json_holds_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["doctor", "--json", "--no-self-test", "--port", str(free_port())]
    assert cli.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["packages"]["segue"]
    assert report["packages"]["mlx"]
    assert report["machine"]["cores"] >= 1
    assert {"checkpoints", "service state", "temporary files"} <= set(report["folders"])
    assert any(m["name"] == "built-in" and m["complete"] for m in report["models"])
    assert report["problems"] == []


def test_who_has_the_port_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert cli.main(["doctor", "--no-self-test", "--port", str(port)]) == 1
    assert f"PROBLEM: port {port} is taken" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cli.main(["doctor", "--no-self-test", "--port", str(free_port())]) == 1
    assert "compiled for openvino: there is no folder" in capsys.readouterr().out


def test_a_port_that_is_none_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--port", "99999"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
