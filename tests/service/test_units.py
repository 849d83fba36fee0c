"""The units in docs/ are what their readers take, and their options are ones that there are."""

import configparser
import plistlib
import shlex
from pathlib import Path

from segue.cli import make_parser

UNITS = Path(__file__).parents[2] / "docs" / "units"


def test_the_launchd_unit():
    unit = plistlib.loads((UNITS / "segue.plist").read_bytes())
    program, *arguments = unit["ProgramArguments"]
    assert Path(program).name == "segue"
    assert make_parser().parse_args(arguments).port == 8000
    assert unit["KeepAlive"] == {"SuccessfulExit": False}


def test_the_systemd_unit():
    unit = configparser.ConfigParser(interpolation=None)
    unit.read(UNITS / "segue.service")
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "segue"
    assert make_parser().parse_args(arguments).port == 8000
    assert unit["Install"]["WantedBy"] == "default.target"
