"""The command line as a user meets it: output, exit codes, errors without tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import puzzlefs, run_puzzlefs


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one image `t` of a small tree, and the tree beside it."""
    home = tmp_path_factory.mktemp("cli")
    (home / "tree" / "dir").mkdir(parents=True)
    (home / "tree" / "dir" / "file").write_bytes(b"content\n")
    (home / "tree" / "link").symlink_to("dir/file")
    puzzlefs("build", home / "tree", f"{home}/oci:t", "--entrypoint", "/bin/sh -c", "--env", "A=b c", "--label", "l=1")
    return home


def test_build_prints_the_digest_last(store: Path) -> None:
    """The last line names the manifest's fs-verity digest, which pins the image."""
    printed = puzzlefs("build", store / "tree", f"{store}/oci:printed").splitlines()[-1]
    digest = printed.removeprefix("puzzlefs image manifest digest: ")

    assert len(digest) == 64
    assert puzzlefs("cat", f"{store}/oci:printed", "-d", digest, "dir/file") == "content\n"


def test_build_json_has_the_facts(store: Path) -> None:
    """With --json the result is one object."""
    facts = json.loads(puzzlefs("build", "--json", store / "tree", f"{store}/oci:json"))

    assert (facts["files"], facts["inodes"], facts["bytes"], facts["chunks"]) == (1, 4, 8, 1)
    assert facts["manifest"].startswith("sha256:")


def test_wrong_pin_is_an_integrity_error(store: Path) -> None:
    """Every reading verb refuses a manifest of another digest, with exit code 3."""
    for verb, *rest in (["cat", "link"], ["ls"], ["inspect"], ["verify"], ["extract", f"{store}/never"]):
        finished = run_puzzlefs(verb, f"{store}/oci:t", *rest, "-d", "0" * 64, check=False)

        assert (verb, finished.returncode) == (verb, 3)
    assert not (store / "never").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nonsense"], 2),
        ([], 2),
        (["build"], 2),
        (["build", "--jobs", "x", "{}/tree", "{}/oci:t"], 2),
        (["build", "--jobs", "-1", "{}/tree", "{}/oci:t"], 2),
        (["build", "{}/tree", "{}/oci"], 2),
        (["build", "{}/nowhere", "{}/oci:t"], 2),
        (["build", "--mtime", "soon", "{}/tree", "{}/oci:t"], 2),
        (["build", "--env", "A", "{}/tree", "{}/oci:t"], 2),
        (["build", "--platform", "linux", "{}/tree", "{}/oci:t"], 2),
        (["build", "-b", "nope", "{}/tree", "{}/oci:t"], 4),
        (["build", "{}/tree", "{}/tree/oci:t"], 2),
        (["ls", "{}/oci:nope"], 4),
        (["ls", "{}/nowhere:t"], 4),
        (["ls", "{}/oci:t", "/nope"], 4),
        (["cat", "{}/oci:t", "/dir"], 4),
        (["tags", "{}"], 4),
        (["mount", "{}/oci:t", "{}/nowhere"], 6),
        (["umount", "{}/tree"], 6),
        (["extract", "{}/oci:t", "{}/tree"], 1),
    ],
)
def test_errors_have_exit_codes_and_one_line(store: Path, words: list[str], code: int) -> None:
    """What goes wrong is said in words, never by a traceback, and told by the exit code."""
    finished = run_puzzlefs(*(word.replace("{}", str(store)) for word in words), check=False)
    said = finished.stderr.decode()

    assert finished.returncode == code, said
    assert "Traceback" not in said
    assert said or not words


def test_debug_shows_the_traceback(store: Path) -> None:
    """--debug is for developers, before or after the verb."""
    for words in (["--debug", "ls", f"{store}/oci:nope"], ["ls", "--debug", f"{store}/oci:nope"]):
        assert b"Traceback" in run_puzzlefs(*words, check=False).stderr


def test_bad_source_date_epoch_is_a_usage_error(store: Path) -> None:
    """An epoch that is no number stops the build."""
    finished = run_puzzlefs(
        "build", store / "tree", f"{store}/oci:e", check=False, environment={"SOURCE_DATE_EPOCH": "yesterday"}
    )

    assert finished.returncode == 2


def test_ls_shows_names_or_everything(store: Path) -> None:
    """Plain, long, recursive and JSON listings of a directory."""
    image = f"{store}/oci:t"
    facts = [json.loads(line) for line in puzzlefs("ls", "--json", "-R", image).splitlines()]

    assert puzzlefs("ls", image) == "dir\nlink\n"
    assert puzzlefs("ls", "-R", image) == "dir\nlink\ndir/file\n"
    assert "link -> dir/file" in puzzlefs("ls", "-l", image)
    assert [(fact["path"], fact["kind"]) for fact in facts] == [("dir", "dir"), ("link", "lnk"), ("dir/file", "file")]


def test_inspect_says_what_there_is(store: Path) -> None:
    """Digests, counts and the runtime config, for people and for programs."""
    facts = json.loads(puzzlefs("inspect", "--json", f"{store}/oci:t"))

    assert (facts["inodes"], facts["files"], facts["layers"]) == (4, 1, 1)
    assert facts["config"]["Entrypoint"] == ["/bin/sh", "-c"]
    assert "A=b c" in facts["config"]["Env"]
    assert facts["digest"] in puzzlefs("inspect", f"{store}/oci:t")
    assert json.loads(puzzlefs("inspect", "--raw", f"{store}/oci:t"))["schemaVersion"] == 2


def test_tags_lists_the_store(store: Path) -> None:
    """Every tag with its manifest and platform."""
    rows = json.loads(puzzlefs("tags", "--json", store / "oci"))

    assert "t" in [row["tag"] for row in rows]
    assert f"{rows[0]['tag']:<1}" in puzzlefs("tags", store / "oci")


def test_damaged_image_is_reported(store: Path, tmp_path: Path, backend_name: str) -> None:
    """Verify and cat name a damaged blob and exit with 3."""
    puzzlefs("build", store / "tree", f"{tmp_path}/oci:t", backend=backend_name)
    blobs = tmp_path / "oci" / "blobs" / "sha256"
    blob = next(path for path in blobs.iterdir() if path.read_bytes() == b"content\n")
    blob.write_bytes(b"kontent\n")

    for words in (["verify", f"{tmp_path}/oci:t"], ["cat", f"{tmp_path}/oci:t", "dir/file"]):
        finished = run_puzzlefs(*words, backend=backend_name, check=False)

        assert finished.returncode == 3
        assert blob.name in finished.stderr.decode()
        assert b"kontent" not in finished.stdout


def test_backend_is_strict(store: Path) -> None:
    """An unknown backend is a usage error; the version names the one in use."""
    assert run_puzzlefs("--version", backend="fast", check=False).returncode == 2
    assert "(python backend)" in puzzlefs("--version", backend="python")


def test_closed_pipe_is_no_error(store: Path) -> None:
    """Whoever stops reading a listing sees no complaint."""
    command = f"{sys.executable} -m puzzlefs ls -R {store}/oci:t | true"
    finished = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False)

    assert (finished.returncode, finished.stderr) == (0, b"")


def test_help_names_every_verb() -> None:
    """The list of commands is complete and every command has help."""
    from puzzlefs.cli import VERBS, parser_for

    listing = puzzlefs("--help")
    for verb in VERBS:
        assert verb in listing
        assert parser_for(verb).format_help()


def test_help_of_a_verb_needs_no_fuse() -> None:
    """Start-up imports neither trio nor pyfuse3 nor rich."""
    code = "import sys, puzzlefs.cli as c\ntry: c.main(['mount', '--help'])\nexcept SystemExit: pass\nprint([m for m in ('trio', 'pyfuse3', 'rich', 'asyncio') if m in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ})

    assert finished.stdout.decode().splitlines()[-1] == "[]"
