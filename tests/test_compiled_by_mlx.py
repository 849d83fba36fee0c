"""Workers exchange what MLX compiled, whole or not at all."""

from .compiled_by_mlx import exchange


def test_each_has_what_another_compiled(tmp_path):
    one, other, whole = (tmp_path / name for name in ("one", "other", "whole"))
    for folder, name in ((one, "gather"), (other, "long/name/scatter")):
        path = folder / name
        path.parent.mkdir(parents=True)
        for suffix in (".ptx", ".txt", ".cu"):
            path.with_suffix(suffix).write_text(name + suffix)
    for folder in (one, other, one):
        exchange(folder, whole)
    for folder in (one, other):
        for name in ("gather", "long/name/scatter"):
            for suffix in (".ptx", ".txt"):
                assert (folder / name).with_suffix(suffix).read_text() == name + suffix
    exchange(one, whole)
    assert not [path for path in tmp_path.rglob("*") if path.suffix[1:].isdigit()]
