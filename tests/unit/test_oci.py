"""OCI documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from puzzlefs import constants
from puzzlefs.errors import CorruptImageError
from puzzlefs.oci import EMPTY_DESCRIPTOR, Descriptor, Manifest, canonical, parse_object

ROOTFS = Descriptor.of(constants.ROOTFS, b"rootfs", annotations={constants.ROOTFS_VERITY: "0" * 64})


def manifest_bytes(**changes: Any) -> bytes:
    """Return a manifest with fields replaced."""
    return canonical({**Manifest(EMPTY_DESCRIPTOR, (ROOTFS,)).document(artifact=True), **changes})


def test_canonical_json_has_sorted_keys_no_space_and_raw_unicode() -> None:
    """The bytes of a document depend on its content alone."""
    assert canonical({"b": 1, "a": {"d": "é", "c": []}}) == '{"a":{"c":[],"d":"é"},"b":1}'.encode()


def test_empty_descriptor_is_the_specifications() -> None:
    """The empty config has the digest that the OCI specification gives."""
    assert EMPTY_DESCRIPTOR.document() == {
        "data": "e30=",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "mediaType": "application/vnd.oci.empty.v1+json",
        "size": 2,
    }


def test_manifest_survives_a_round_trip() -> None:
    """Parsing what was written gives it back."""
    manifest = Manifest.parse(manifest_bytes())

    assert (manifest.rootfs.digest, manifest.rootfs.annotations) == (ROOTFS.digest, ROOTFS.annotations)


@pytest.mark.parametrize(
    "changes",
    [
        {"schemaVersion": 1},
        {"layers": []},
        {"layers": None},
        {"layers": [EMPTY_DESCRIPTOR.document()]},
        {"layers": ["x"]},
        {"config": None},
        {"annotations": []},
        {"layers": [{**ROOTFS.document(), "size": -1}]},
        {"layers": [{**ROOTFS.document(), "size": True}]},
        {"layers": [{**ROOTFS.document(), "size": 1 << 63}]},
        {"layers": [{**ROOTFS.document(), "digest": "sha256:../../etc/passwd"}]},
        {"layers": [{**ROOTFS.document(), "digest": "sha256:" + "A" * 64}]},
        {"layers": [{**ROOTFS.document(), "annotations": {"a": 1}}]},
        {"layers": [{**ROOTFS.document(), "mediaType": 3}]},
        {"layers": [{**ROOTFS.document(), "platform": "linux"}]},
    ],
)
def test_malformed_manifest_is_corrupt(changes: dict[str, Any]) -> None:
    """A manifest with a field of the wrong kind or range is refused."""
    with pytest.raises(CorruptImageError):
        Manifest.parse(manifest_bytes(**changes))


def test_malformed_data_layer_is_corrupt_where_layers_are_asked_for() -> None:
    """Reading files needs none of the thousands of them; what reads them checks every one."""
    manifest = Manifest.parse(manifest_bytes(layers=[ROOTFS.document(), {**ROOTFS.document(), "size": -1}]))
    assert manifest.rootfs == ROOTFS
    for _ in range(2):
        with pytest.raises(CorruptImageError):
            _ = manifest.layers


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_corrupt(content: bytes) -> None:
    """Anything but a JSON object is refused, however deep it nests."""
    with pytest.raises(CorruptImageError):
        parse_object(content, "manifest")


def test_artifact_form_names_its_types() -> None:
    """The default profile's manifest says what it is; the original's does not."""
    document = json.loads(manifest_bytes())
    plain = Manifest(EMPTY_DESCRIPTOR, (ROOTFS,)).document(artifact=False)

    assert (document["mediaType"], document["artifactType"]) == (constants.MANIFEST, constants.ARTIFACT)
    assert sorted(plain) == ["config", "layers", "schemaVersion"]
