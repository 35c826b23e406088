"""What builds keep for later ones, and when it is not believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from puzzlefs import build_cache
from puzzlefs.build_cache import BuildCache, default_directory
from puzzlefs.builder import BuildOptions, BuildResult, build
from tests.support import run_puzzlefs


def cache_of(home: Path, tree: str = "tree", form: str = "0") -> BuildCache:
    return BuildCache(home / "cache", home / "store", home / tree, form)


def test_a_trace_is_kept_for_its_tree_store_and_form(tmp_path: Path) -> None:
    """Another tree of the store gets the latest; another form nothing."""
    cache_of(tmp_path).save(b"one")
    cache_of(tmp_path, "other").save(b"two")
    os.utime(next((tmp_path / "cache").glob("*")), (1, 1))

    assert [cache_of(tmp_path).load(), cache_of(tmp_path, "other").load()] == [b"one", b"two"]
    assert cache_of(tmp_path, "third").load() in (b"one", b"two")
    assert cache_of(tmp_path, form="2").load() == b""
    assert oct((tmp_path / "cache").stat().st_mode & 0o777) == "0o700"


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 64])
def test_damage_is_the_same_as_nothing(tmp_path: Path, content: bytes) -> None:
    """Short and altered files are not believed, and are replaced."""
    cache_of(tmp_path).save(b"trace")
    next((tmp_path / "cache").iterdir()).write_bytes(content)
    assert cache_of(tmp_path).load() == b""
    cache_of(tmp_path).save(b"again")
    assert cache_of(tmp_path).load() == b"again"


def test_a_directory_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    """Whoever could write there could say what an image contains."""
    cache_of(tmp_path).save(b"trace")
    (tmp_path / "cache").chmod(0o770)

    assert cache_of(tmp_path).load() == b""
    with pytest.raises(PermissionError):
        cache_of(tmp_path).save(b"trace")


def test_a_file_that_is_a_link_or_anothers_is_not_used(tmp_path: Path) -> None:
    """A link is not followed, a file that others may write to not believed."""
    cache_of(tmp_path).save(b"trace")
    path = next((tmp_path / "cache").iterdir())
    path.chmod(0o666)
    assert cache_of(tmp_path).load() == b""
    path.chmod(0o600)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache_of(tmp_path).load() == b""


def test_only_the_latest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of traces and of their bytes is bounded; what killed builds left goes."""
    monkeypatch.setattr(build_cache, "_FILE_LIMIT", 3)
    for number in range(5):
        cache_of(tmp_path, f"tree{number}").save(b"trace")
    left = tmp_path / "cache" / "0.tmp"
    left.write_bytes(b"")
    os.utime(left, (1, 1))
    cache_of(tmp_path).save(b"trace")

    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert cache_of(tmp_path).load() == b"trace"
    monkeypatch.setattr(build_cache, "_BYTE_LIMIT", 50)
    cache_of(tmp_path).save(b"trace")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_default_is_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG base directories say; a relative one counts as none."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_directory() == "/somewhere/puzzlefs/builds"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/of")
    assert default_directory() == "/home/of/.cache/puzzlefs/builds"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "a").write_bytes(b"a" * 100_000)
    (tree / "d" / "b").write_bytes(os.urandom(200_000))
    return tree


def rebuilt(tmp_path: Path, tree: Path, cache: Path | None) -> BuildResult:
    return build(tree, f"{tmp_path}/store:t", BuildOptions(cache=cache, compression=True))


def test_builds_with_a_cache_are_the_same(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged, changed, and into a store that lost its blobs."""
    monkeypatch.setattr(build_cache, "horizon", lambda: 1 << 62)
    cache = tmp_path / "cache"
    first = rebuilt(tmp_path, tree, cache)
    again = rebuilt(tmp_path, tree, cache)
    assert (again.manifest, again.new_bytes) == (first.manifest, 0)
    (tree / "a").write_bytes(b"b" * 100_000)
    assert rebuilt(tmp_path, tree, cache).manifest == rebuilt(tmp_path, tree, None).manifest
    for blob in (tmp_path / "store" / "blobs" / "sha256").iterdir():
        blob.unlink()
    changed = rebuilt(tmp_path, tree, cache)
    assert changed.new_bytes == changed.stored_bytes


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, tree: Path) -> None:
    """The build succeeds all the same."""
    (tmp_path / "cache").write_bytes(b"")

    assert "nothing is kept" in rebuilt(tmp_path, tree, tmp_path / "cache").notices[0]


def test_the_program_has_a_cache_unless_told_otherwise(tmp_path: Path, tree: Path) -> None:
    """In the user's cache, in a directory of choice, or none."""
    environment = {"XDG_CACHE_HOME": str(tmp_path / "xdg")}
    image = f"{tmp_path}/store:t"
    run_puzzlefs("build", "--no-cache", tree, image, environment=environment)
    assert not (tmp_path / "xdg").exists()
    run_puzzlefs("build", "--cache-dir", tmp_path / "chosen", tree, image, environment=environment)
    assert len(list((tmp_path / "chosen").glob("*.trace"))) == 1
    run_puzzlefs("build", tree, image, environment=environment)
    assert len(list((tmp_path / "xdg" / "puzzlefs" / "builds").glob("*.trace"))) == 1
