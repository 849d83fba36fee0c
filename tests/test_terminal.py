"""Tables: no name is cut where it is piped, and no word is broken where it is narrow."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from segue.checkpoints.catalogue import CATALOGUE
from segue.cli import main
from segue.terminal import print_table

NAMES = [name for family in CATALOGUE.values() for name in family]


def table():
    found = Table("model", "", "on disk", "state", box=None, pad_edge=False)
    for name in NAMES:
        found.add_row(name, "stereo large", "12.3 GB", "can be downloaded")
    return found


def printed(width, terminal):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None)
    print_table(table(), console)
    assert console.width == width
    return out.getvalue()


@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_what_is_piped_has_a_line_for_each_row_and_every_name(width):
    lines = printed(width, terminal=False).splitlines()
    assert len(lines) == len(NAMES) + 1
    assert [line.split()[0] for line in lines[1:]] == NAMES
    assert {" ".join(line.split()[1:]) for line in lines[1:]} == {
        "stereo large 12.3 GB can be downloaded"
    }


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_no_word_is_broken_in_a_narrow_terminal(width):
    words = printed(width, terminal=True).split()
    for name in NAMES:
        assert name in words
    for word in ("stereo", "large", "12.3", "downloaded"):
        assert words.count(word) == len(NAMES)
    assert not any("…" in word for word in words)


def test_rows_of_a_narrow_terminal_have_their_headings():
    assert printed(30, terminal=True).startswith(
        f"{NAMES[0]}\n  stereo large\n  on disk: 12.3 GB\n  state: can be downloaded\n"
    )


def test_a_wide_terminal_has_the_table():
    lines = printed(120, terminal=True).splitlines()
    assert len(lines) == len(NAMES) + 1


def test_the_list_of_models_names_them_whole_in_a_pipe(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "30")
    assert main(["models"]) == 0
    words = capsys.readouterr().out.split()
    assert set(NAMES) <= set(words)
