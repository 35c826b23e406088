"""The OCI image config."""

from __future__ import annotations

from puzzlefs.oci import Platform
from puzzlefs.runtime_config import DEFAULT_ENV, RuntimeConfig, config_document

LAYERS = ["sha256:" + "1" * 64]


def test_nothing_said_and_nothing_inherited_gives_no_config() -> None:
    """An image without runtime config has the empty config."""
    assert config_document(RuntimeConfig(), None, Platform(), LAYERS, None) is None


def test_env_is_never_empty_and_every_layer_has_a_diff_id() -> None:
    """Consumers that iterate over Env or compare diff_ids with layers find what they need."""
    document = config_document(RuntimeConfig(user="1"), None, Platform(), LAYERS, None)

    assert document is not None
    assert document["config"]["Env"] == list(DEFAULT_ENV)
    assert document["rootfs"] == {"type": "layers", "diff_ids": LAYERS}
    assert "created" not in document


def test_base_config_is_inherited_and_overridden() -> None:
    """Variables merge by name, labels by key; a new entrypoint drops the base's arguments."""
    base = {
        "config": {
            "Env": ["A=1", "B=2"],
            "Cmd": ["x"],
            "Labels": {"k": "1", "l": "2"},
            "User": "u",
            "Volumes": {"/v": {}},
        }
    }
    runtime = RuntimeConfig(env=["B=3", "C=4"], entrypoint=["/run"], labels={"k": "9"})

    document = config_document(runtime, base, Platform(), LAYERS, 86400)

    assert document is not None
    assert document["created"] == "1970-01-02T00:00:00Z"
    assert document["config"] == {
        "Env": ["A=1", "B=3", "C=4"],
        "Entrypoint": ["/run"],
        "Labels": {"k": "9", "l": "2"},
        "User": "u",
        "Volumes": {"/v": {}},
    }


def test_inherited_config_alone_is_kept() -> None:
    """A delta of an image with a config has one too, though nothing new was said."""
    document = config_document(RuntimeConfig(), {"config": {"Cmd": ["x"]}}, Platform(), LAYERS, None)

    assert document is not None
    assert document["config"]["Cmd"] == ["x"]
