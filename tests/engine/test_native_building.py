"""The native library: what compiles it, what a wheel brings, and that nothing crashes it."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from segue.engine.native import building, library
from segue.engine.native.building import CompileError, Target, this_target

from .engines import require

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).parent / "native_driver.c"
SANITIZED = Path(__file__).parent / "native_sanitized.py"
ZIG = (sys.executable, "-m", "ziglang", "cc")

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
needs_zig = pytest.mark.skipif(
    find_spec("ziglang") is None, reason="no ziglang: pip install ziglang"
)


def output_of(*command, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def run_python(code, **environment):
    return output_of(sys.executable, "-c", code, **environment)


def driver(folder, command, target=None, flags=()):
    """The C program that runs the library without Python, all sources in it."""
    target = target or this_target()
    objects = []
    for name, own in {**target.sources, str(DRIVER): ()}.items():
        objects.append(folder / f"{Path(name).name}.o")
        source = building.SOURCES / name
        including = ("-I", str(building.SOURCES))
        output_of(
            *(*command, *building.FLAGS, *flags, *own, *including),
            *("-c", source, "-o", objects[-1]),
        )
    made = folder / "driver"
    output_of(*command, *flags, *objects, "-o", made, "-lpthread", "-lm")
    return made


# --- Where the library comes from -----------------------------------------------------------------


def loading(packaged, compilers="[]"):
    """Code that loads the library where a wheel has brought `packaged`.

    What it compiles is not optimized, which takes a tenth of the time.
    """
    return f"""
from pathlib import Path
from segue.engine.native import building, library
building.FLAGS = (*building.FLAGS, "-O0")
library.PACKAGED = Path({str(packaged)!r})
library.compilers = lambda: {compilers}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A library of these sources."""
    if not building.compilers():
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("compiled") / this_target().library_name
    building.compile_into(path, building.compilers()[0], flags=("-O0",))
    return path


def test_without_a_compiler_openvino_runs_and_says_so(toy, tmp_path):
    require("openvino")
    code = f"""
{loading(tmp_path / "none")}
import segue
engine = segue.load({str(toy)!r}).engine
print(engine.name, *engine.load_report.notes)
try:
    segue.load({str(toy)!r}, engine="native")
except segue.RequestError as error:
    print(error)
"""
    said = run_python(code, XDG_CACHE_HOME=str(tmp_path))
    assert said.startswith("openvino ")
    assert said.count("no C compiler") == 2


def test_the_packaged_library_is_taken_first(compiled, tmp_path):
    code = f"{loading(compiled)}print(library.load()._name)"
    assert run_python(code, XDG_CACHE_HOME=str(tmp_path)) == str(compiled)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_packaged_library_of_other_sources_is_not_taken(compiled, tmp_path, monkeypatch):
    [command, *_] = building.compilers()
    with monkeypatch.context() as patch:
        patch.setattr(library, "source_hash", lambda: "0123456789abcdef")
        with pytest.raises(library.UnavailableError, match="other sources than are here"):
            library.opened(compiled)
    changed = "building.source_hash = library.source_hash = lambda: '0123456789abcdef'\n"
    code = f"{loading(compiled, [command])}{changed}print(library.load()._name)"
    assert run_python(code, XDG_CACHE_HOME=str(tmp_path / "cache")).startswith(
        str(tmp_path / "cache")
    )
    code = f"{loading(compiled)}{changed}print(library.unavailable())"
    said = run_python(code, XDG_CACHE_HOME=str(tmp_path / "empty"))
    assert "other sources" in said
    assert "no C compiler" in said
    assert "\n" not in said


def test_what_is_no_library_is_one_line(tmp_path):
    path = tmp_path / "library"
    path.write_bytes(b"no library\n")
    with pytest.raises(library.UnavailableError, match="no library that runs here"):
        library.opened(path)


def test_a_compiler_that_fails_is_one_line(tmp_path):
    path = tmp_path / this_target().library_name
    with pytest.raises(CompileError, match="false did not compile it"):
        building.compile_into(path, ("false",))
    assert not list(tmp_path.iterdir())


def test_the_system_s_compiler_is_preferred(monkeypatch, tmp_path):
    for name in ("gcc", "clang"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "ccache gcc-14")
    monkeypatch.setattr(building, "find_spec", lambda name: name)
    first, *system, last = building.compilers()
    assert first == ("ccache", "gcc-14")
    assert system == [(str(tmp_path / "gcc"),), (str(tmp_path / "clang"),)]
    assert last[:4] == ZIG


def test_a_source_that_changes_changes_the_hash(monkeypatch, tmp_path):
    before = building.source_hash()
    for file in building.SOURCES.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    monkeypatch.setattr(building, "SOURCES", tmp_path)
    assert building.source_hash() == before
    (tmp_path / "step.c").write_bytes(b"")
    assert building.source_hash() != before


# --- Wheels and other machines --------------------------------------------------------------------


def wheel_of(folder, platform, **environment):
    """The wheel of a platform; pip's way to build, without a network."""
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    named = output_of(
        *(sys.executable, "-c", code, folder), SEGUE_WHEEL=platform, PWD=str(ROOT), **environment
    )
    return folder / named.splitlines()[-1]


@pytest.mark.slow
@needs_gcc
@needs_zig
def test_a_wheel_brings_a_library_that_needs_no_compiler(tmp_path, monkeypatch):
    target = this_target()
    if target not in (Target("linux", "x86_64"), Target("linux", "aarch64")):
        pytest.skip("built on Linux")
    monkeypatch.chdir(ROOT)
    wheel = wheel_of(tmp_path, f"linux-{target.machine}", CC="gcc")
    assert wheel.name.startswith("segue-")
    assert f"-py3-none-manylinux_2_17_{target.machine}" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "from segue.engine.native import library; print(library.load()._name)"
    named = run_python(
        code, PATH="", CC="", PYTHONPATH=str(tmp_path / "site"), XDG_CACHE_HOME=str(tmp_path / "c")
    )
    assert named == str(tmp_path / "site" / "segue" / "engine" / "native" / target.library_name)
    assert not (tmp_path / "c").exists()


def test_a_platform_that_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(AssertionError, match=r"SEGUE_WHEEL.*linux-x86_64"):
        wheel_of(tmp_path, "amiga")


def test_wheels_are_compiled_by_what_is_locked():
    lock = (ROOT / "requirements" / "compiler.lock").read_text(encoding="utf-8")
    assert f'"{lock.split()[0]}"' in (ROOT / "hatch_build.py").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(900)  # ziglang compiles what it links with, when it first does
@needs_zig
@pytest.mark.parametrize(
    ("target", "triple"),
    [
        (Target("windows", "x86_64"), "x86_64-windows-gnu"),
        (Target("darwin", "aarch64"), "aarch64-macos"),
        (Target("darwin", "x86_64"), "x86_64-macos"),
        (Target("linux", "aarch64"), "aarch64-linux-gnu.2.17"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_compiles_for_other_systems(tmp_path, target, triple):
    path = tmp_path / target.library_name
    building.compile_into(path, (*ZIG, "-target", triple), target, ("-O1", "-Werror"))
    magic = {"windows": b"MZ", "darwin": b"\xcf\xfa\xed\xfe", "linux": b"\x7fELF"}
    content = path.read_bytes()
    assert content.startswith(magic[target.system])
    assert b"segue_forward" in content


@pytest.mark.slow
@pytest.mark.timeout(900)  # ziglang compiles what it links with, when it first does
@needs_zig
def test_neon_computes_what_plain_c_does(tmp_path):
    """Products to the bit; sums across lanes in another order."""
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("no qemu-aarch64: apt-get install qemu-user")
    command = (*ZIG, "-target", "aarch64-linux-musl")
    made = driver(tmp_path, command, Target("linux", "aarch64"), ("-static",))
    # By one thread: an emulated one that waits is slow at it, and keeps the core from the others.
    said = output_of(emulator, "-cpu", "max", made, "paths", "neon", "1").splitlines()
    assert said[:2] == [f"neon 270 products of int{bits} 0 different 0" for bits in (16, 8)]
    name, models, _, apart = said[2].split()
    assert (name, models) == ("neon", "8")
    assert float(apart) < 1e-3
    assert output_of(emulator, "-cpu", "max", made, "hostile", "neon", "1").split() == [
        "neon",
        "done",
    ]
    # A processor without dot products has the plain path alone.
    assert output_of(emulator, "-cpu", "cortex-a53", made, "paths", "neon") == "done"


@pytest.mark.slow
@needs_gcc
@pytest.mark.skipif(this_target().machine != "x86_64", reason="of this processor's paths")
def test_every_path_multiplies_as_plain_c_does_to_the_bit(tmp_path):
    """Plain C too rounds a product and its sum once here."""
    require("native")
    if "avx2" not in library.load().segue_paths().decode().split():
        pytest.skip("no path that rounds them once")
    said = output_of(driver(tmp_path, ("gcc",), flags=("-O1", "-mfma")), "paths").splitlines()
    products = [line for line in said if " products " in line]
    assert len(products) >= 4
    for line in products:
        assert " 0 different" in line


# --- Sanitizers -----------------------------------------------------------------------------------


def runtime_of(name):
    """The file of a sanitizer's runtime."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    path = output_of("gcc", f"-print-file-name={name}")
    if not Path(path).is_absolute():
        pytest.skip("no sanitizers beside the compiler")
    return path


def paths():
    require("native")
    return library.load().segue_paths().decode().split()


@pytest.mark.slow
def test_address_and_undefined_behaviour_sanitizers_find_nothing(tmp_path):
    """Every path, with shapes that fill no block and values that are no numbers."""
    runtime = runtime_of("libasan.so")
    path = tmp_path / this_target().library_name
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    building.compile_into(path, ("gcc",), flags=("-O0", *sanitizers))
    said = output_of(
        *(sys.executable, SANITIZED, path),
        LD_PRELOAD=runtime,
        ASAN_OPTIONS="detect_leaks=0",
        UBSAN_OPTIONS="halt_on_error=1",
    )
    assert said.split() == [*paths(), "done"]


@needs_zig  # it takes a minute: `make test-native` has the time
@pytest.mark.slow
@pytest.mark.timeout(900)  # compiles all with a sanitizer
def test_nothing_that_a_caller_gives_crashes_it(tmp_path):
    """Values, shapes and positions that are none, on every path and under the sanitizers."""
    runtime_of("libasan.so")
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    made = driver(tmp_path, ("gcc",), flags=("-O1", "-g", *sanitizers))
    said = output_of(made, "hostile", UBSAN_OPTIONS="halt_on_error=1")
    assert said.split() == [*paths(), "done"]


@needs_zig  # it takes a minute: `make test-native` has the time
@pytest.mark.slow
@pytest.mark.timeout(900)  # compiles all with a sanitizer
def test_the_thread_sanitizer_finds_nothing(tmp_path):
    """More threads than cores, rows that leave, threads that fall asleep, models side by side."""
    runtime_of("libtsan.so")
    made = driver(tmp_path, ("gcc",), flags=("-O1", "-g", "-fsanitize=thread"))
    assert output_of(made, "threads", TSAN_OPTIONS="halt_on_error=1") == "done"


@pytest.mark.slow
@needs_gcc
@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_threads_that_the_system_does_not_give_are_no_crash(tmp_path):
    assert output_of(driver(tmp_path, ("gcc",), flags=("-O0",)), "limits") == "done"
