"""Put the native library into a wheel of a platform.

    SEGUE_WHEEL=linux-x86_64 python -m build --wheel

compiles it by `ziglang`, which does so for every platform on any, or by `$CC`; then `ziglang` only
links it, against the oldest system that the wheel's name promises.  Without `SEGUE_WHEEL` the wheel
is one for all, and the library is compiled when it is first used.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "SEGUE_WHEEL"
FOLDER = "segue/engine/native"

PLATFORMS = {
    "linux-x86_64": ("linux", "x86_64", "x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64"),
    "linux-aarch64": ("linux", "aarch64", "aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64"),
    "macos-arm64": ("darwin", "aarch64", "aarch64-macos.11.0", "macosx_11_0_arm64"),
    "macos-x86_64": ("darwin", "x86_64", "x86_64-macos.11.0", "macosx_11_0_x86_64"),
    "windows-x86_64": ("windows", "x86_64", "x86_64-windows-gnu", "win_amd64"),
}
"""By name: the system and the processor, `ziglang`'s name of both, and the wheel's."""


class NativeLibraryHook(BuildHookInterface[Any]):
    """See the module."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What is installed for the build."""
        return ["ziglang==0.17.1"] if os.environ.get(VARIABLE) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library and name the wheel, see `BuildHookInterface`."""
        name = os.environ.get(VARIABLE)
        if not name or version == "editable":
            return
        if name not in PLATFORMS:
            raise SystemExit(f"{VARIABLE} is {name!r}, not one of {', '.join(PLATFORMS)}")
        system, machine, triple, tag = PLATFORMS[name]
        building = self._building()
        target = building.Target(system, machine)
        linker = (sys.executable, "-m", "ziglang", "cc", "-target", triple)
        command = tuple(shlex.split(os.environ.get("CC", ""))) or linker
        self._folder = tempfile.mkdtemp()
        library = Path(self._folder, target.library_name)
        building.compile_into(library, command, target, linker=linker)
        build_data["force_include"][str(library)] = f"{FOLDER}/{library.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled, see `BuildHookInterface`."""
        if folder := getattr(self, "_folder", None):
            shutil.rmtree(folder)

    def _building(self) -> ModuleType:
        """The module that compiles, without segue, whose dependencies are not installed here."""
        file = Path(self.root, "src", FOLDER, "building.py")
        spec = spec_from_file_location("building", file)
        if spec is None or spec.loader is None:
            raise SystemExit(f"{file} is missing")
        module = sys.modules["building"] = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
