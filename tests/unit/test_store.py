"""The image layout on disk."""

from __future__ import annotations

import json
import multiprocessing
import os
from hashlib import sha256
from pathlib import Path

import pytest

from puzzlefs import constants
from puzzlefs.errors import BlobError, CorruptImageError, MissingBlobError, NotFoundError, StoreError, UnsupportedError
from puzzlefs.oci import Descriptor, Platform
from puzzlefs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "oci")


def put(store: Store, content: bytes) -> Descriptor:
    with store.unfinished() as unfinished:
        store.put(content, unfinished)
    return Descriptor.of(constants.MANIFEST, content)


def test_blob_comes_back(store: Store) -> None:
    """What was put is got."""
    assert store.get(put(store, b"content"), 100) == b"content"


def test_damaged_blob_is_an_error(store: Store) -> None:
    """A blob whose bytes changed is refused."""
    descriptor = put(store, b"content")
    (store.blobs / descriptor.digest[7:]).write_bytes(b"contenT")

    with pytest.raises(BlobError, match="does not match"):
        store.get(descriptor, 100)


def test_longer_blob_is_an_error(store: Store) -> None:
    """Bytes appended to a blob are noticed."""
    descriptor = put(store, b"content")
    (store.blobs / descriptor.digest[7:]).write_bytes(b"content+")

    with pytest.raises(BlobError):
        store.get(descriptor, 100)


def test_missing_blob_is_an_error(store: Store) -> None:
    """A blob that is not there has an error of its own."""
    with pytest.raises(MissingBlobError):
        store.get(Descriptor.of(constants.MANIFEST, b"never stored"), 100)


def test_limit_bounds_what_is_read(store: Store) -> None:
    """A descriptor larger than the limit is refused before anything is read."""
    with pytest.raises(CorruptImageError):
        store.get(put(store, b"content"), 6)


def test_truncated_file_of_a_killed_writer_is_replaced(store: Store) -> None:
    """A blob file of the wrong size does not stop the right one from being stored."""
    name = sha256(b"content").hexdigest()
    (store.blobs / name).write_bytes(b"con")

    assert store.get(put(store, b"content"), 100) == b"content"


def test_second_put_is_not_new(store: Store) -> None:
    """Putting says whether the blob was there."""
    with store.unfinished() as unfinished:
        assert [store.put(b"x", unfinished), store.put(b"x", unfinished)] == [True, False]


def test_nothing_unfinished_stays(store: Store) -> None:
    """A writer's directory is gone when it is done, also when it fails."""
    with pytest.raises(ZeroDivisionError), store.unfinished() as unfinished:
        Path(unfinished, "x").write_bytes(b"x")
        raise ZeroDivisionError

    assert os.listdir(store.blobs.parent) == ["sha256"]


def test_killed_writers_directory_is_deleted_by_the_next(store: Store) -> None:
    """An unfinished directory that nobody holds is cleaned up; one that is held stays."""
    abandoned = store.blobs.parent / ".puzzlefs-abandoned"
    abandoned.mkdir()
    (abandoned / "x").write_bytes(b"x")

    with store.unfinished() as held, store.unfinished():
        assert os.path.exists(held)
        assert not abandoned.exists()


def test_retagging_drops_the_old_entry_and_appends(store: Store) -> None:
    """A tag stands once in the index, last where it was set last."""
    first, second = put(store, b"1"), put(store, b"2")
    for tag, descriptor in (("a", first), ("b", first), ("a", second)):
        store.tag(tag, descriptor)

    assert [(tag, entry.digest) for tag, entry in store.tags()] == [("b", first.digest), ("a", second.digest)]


def test_foreign_entries_of_the_index_are_kept(store: Store) -> None:
    """What another tool wrote into the index survives tagging."""
    document = store.index()
    foreign = {"mediaType": "x/y", "digest": "sha256:" + "0" * 64, "size": 1, "urls": ["u"], "vendor": {"k": 1}}
    document |= {"manifests": [foreign], "annotations": {"k": "v"}}
    (store.path / "index.json").write_text(json.dumps(document))

    store.tag("a", put(store, b"1"))

    assert store.index()["manifests"][0] == foreign
    assert store.index()["annotations"] == {"k": "v"}


def tag_one(path: Path, number: int) -> None:
    store = Store.create(path)
    with store.unfinished() as unfinished:
        store.put(b"%d" % number, unfinished)
    store.tag(f"t{number}", Descriptor.of(constants.MANIFEST, b"%d" % number))


def test_parallel_writers_all_survive(tmp_path: Path) -> None:
    """Processes that make and tag one store at the same time lose nothing."""
    with multiprocessing.get_context("fork").Pool(8) as pool:
        pool.starmap(tag_one, [(tmp_path / "oci", number) for number in range(40)])

    assert sorted(tag for tag, _ in Store.open(tmp_path / "oci").tags()) == sorted(f"t{n}" for n in range(40))


def test_digest_opens_an_untagged_manifest(store: Store) -> None:
    """A manifest can be named by digest, tagged or not."""
    descriptor = put(store, b"manifest")

    assert store.resolve(descriptor.digest).size == 8


def test_unknown_tag_and_layout_are_not_found(store: Store, tmp_path: Path) -> None:
    """What does not exist is a NotFoundError."""
    with pytest.raises(NotFoundError):
        store.resolve("nope")
    with pytest.raises(NotFoundError):
        Store.open(tmp_path)


def test_tag_of_several_platforms_means_this_machines(store: Store) -> None:
    """Of entries with one tag the one for the host is chosen, or the one asked for."""
    ours, other = put(store, b"ours"), put(store, b"other")
    entries = []
    for descriptor, platform in ((other, Platform("plan9", "mips")), (ours, Platform.host())):
        annotations = {constants.REF_NAME: "t"}
        entries.append({**descriptor.document(), "annotations": annotations, "platform": platform.document()})
    (store.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))

    assert store.resolve("t").digest == ours.digest
    assert store.resolve("t", Platform("plan9", "mips")).digest == other.digest
    with pytest.raises(NotFoundError):
        store.resolve("t", Platform("linux", "vax"))


def test_unknown_layout_version_is_unsupported(store: Store) -> None:
    """A layout of another version is not touched."""
    (store.path / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')

    with pytest.raises(UnsupportedError):
        Store.open(store.path)


@pytest.mark.parametrize("content", ["", "[]", '{"manifests":3}', '{"manifests":[3]}'])
def test_malformed_index_is_corrupt(store: Store, content: str) -> None:
    """An index that is not one is named as such."""
    (store.path / "index.json").write_text(content)

    with pytest.raises(CorruptImageError):
        store.tags()


def test_store_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    """A file in the way is reported with its name."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreError, match="file"):
        Store.create(tmp_path / "file" / "oci")


def test_blob_directory_may_be_a_link(tmp_path: Path) -> None:
    """A shared blob directory, reached by a symbolic link, is read and written."""
    shared = tmp_path / "shared" / "sha256"
    shared.mkdir(parents=True)
    (tmp_path / "oci" / "blobs").mkdir(parents=True)
    (tmp_path / "oci" / "blobs" / "sha256").symlink_to(shared)
    store = Store.create(tmp_path / "oci")

    descriptor = put(store, b"content")

    assert store.get(descriptor, 100) == b"content"
    assert (shared / descriptor.digest[7:]).exists()
