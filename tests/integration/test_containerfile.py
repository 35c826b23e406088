"""Containerfiles built by the real buildah and converted from its layers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from puzzlefs import mountinfo
from puzzlefs.image import Image
from puzzlefs.store import Store
from tests.mounts import requires_fuse
from tests.support import requires_root, run_puzzlefs

BUSYBOX = shutil.which("busybox")
FILE = """
FROM scratch AS first
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ARG WORD=hello
RUN echo $WORD > /greeting && rm /bin/wget && chown 5:6 /greeting
FROM first
RUN echo more >> /greeting
ENV A=b
USER 5
WORKDIR /bin
ENTRYPOINT ["/bin/cat", "/greeting"]
"""

pytestmark = [
    pytest.mark.skipif(shutil.which("buildah") is None, reason="buildah is not installed"),
    pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed"),
]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A directory with a Containerfile that names every kind of instruction that a config keeps."""
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(str(BUSYBOX), context / "busybox")
    (context / "Containerfile").write_text(FILE)
    return context


@pytest.fixture(autouse=True)
def _storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What buildah keeps in a test is the test's own."""
    requires_root()
    places = f'graphroot = "{tmp_path}/images"\nrunroot = "{tmp_path}/run"\n'
    (tmp_path / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\n{places}')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    subprocess.run(["buildah", "rmi", "--all", "--force"], capture_output=True, check=False)


def build(context: Path, image: str, *options: str, code: int = 0, **environment: str) -> str:
    """Build the context's Containerfile; return what was said on standard error."""
    words = ["build", "-f", context / "Containerfile", *options, context, image]
    done = run_puzzlefs(*words, check=False, environment=environment)
    said = done.stderr.decode()
    assert done.returncode == code, said
    return said


def test_an_image_of_a_containerfile(context: Path, tmp_path: Path) -> None:
    """Tree and config are what the instructions say; all of it is known the second time."""
    name = f"{tmp_path}/oci:app"
    build(context, name, "--build-arg", "WORD=hi", "--label", "k=v")
    image = Image.open(name)
    assert image.open("greeting").read() == b"hi\nmore\n"
    assert image.index.stat(image.resolve("greeting"))[3:5] == (5, 6)
    assert not image.index.lookup(image.resolve("bin"), b"wget")
    assert image.config is not None
    config = image.config["config"]
    assert (config["Entrypoint"], config["User"], config["WorkingDir"]) == (["/bin/cat", "/greeting"], "5", "/bin")
    assert "A=b" in config["Env"] and config["Labels"]["k"] == "v"
    said = build(context, name, "--build-arg", "WORD=hi", "--label", "k=v")
    assert f"puzzlefs: {name}: nothing to convert, the image is as it was\n" in said
    assert "Using cache" in said
    assert Image.open(name).descriptor.digest == image.descriptor.digest


def test_one_command_from_a_containerfile_to_a_container(context: Path, tmp_path: Path) -> None:
    """It runs as the config says: the program, its user, its directory; the exit code is the program's."""
    requires_fuse()
    if shutil.which("runc") is None:
        pytest.skip("needs runc")
    (context / "Containerfile").write_text(
        FILE.replace('["/bin/cat", "/greeting"]', '["/bin/sh", "-c", "cat /greeting; id -u; pwd; exit 9"]')
    )
    words = ["build", "--run", "-f", context / "Containerfile", context, f"{tmp_path}/oci:app"]
    done = run_puzzlefs(*words, check=False)
    assert (done.returncode, done.stdout) == (9, b"hello\nmore\n5\n/bin\n"), done.stderr.decode()
    assert [mount for mount in mountinfo.mounts() if str(tmp_path).encode() in mount.mountpoint] == []


def test_one_stage(context: Path, tmp_path: Path) -> None:
    build(context, f"{tmp_path}/oci:app", "--target", "first")
    assert Image.open(f"{tmp_path}/oci:app").open("greeting").read() == b"hello\n"


def test_reproducible(context: Path, tmp_path: Path) -> None:
    """The same digest from layers that were made before, at other times, and from new ones."""
    build(context, f"{tmp_path}/oci:before")
    for number, options in enumerate(([], ["--no-cache"])):
        build(context, f"{tmp_path}/oci:{number}", *options, SOURCE_DATE_EPOCH="1700000000")
    assert Image.open(f"{tmp_path}/oci:0").verity == Image.open(f"{tmp_path}/oci:1").verity


def test_a_step_that_fails(context: Path, tmp_path: Path) -> None:
    """What buildah says, then one sentence; no tag."""
    (context / "Containerfile").write_text(FILE.replace("echo more", "exit 7; echo"))
    said = build(context, f"{tmp_path}/oci:app", code=1)
    assert said.endswith(f"puzzlefs: {context}/Containerfile: buildah failed with exit code 7\n")
    assert not (tmp_path / "oci").exists() or Store.open(tmp_path / "oci").tags() == []


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (None, "building a Containerfile needs buildah, which is not installed"),
        ("echo 'buildah version 1.19.6 (image-spec 1.0.1)'", "{}: version 1.19 is older than 1.24"),
        ("echo nonsense", "{}: not a buildah whose version can be told"),
    ],
)
def test_the_program_that_is_needed(script: str | None, text: str, context: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    if script is not None:
        (programs / "buildah").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "buildah").chmod(0o755)
    path = os.pathsep.join([str(programs), *(["/usr/bin", "/bin"] if script is not None else [])])
    said = build(context, f"{tmp_path}/oci:app", code=7, PATH=path)
    assert said == f"puzzlefs: {text.format(programs / 'buildah')}\n"
    assert not (tmp_path / "oci").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-f", "F", "C", "S:t", "-b", "x"], "--base has no meaning with --file F"),
        (["-f", "F", "C"], "a directory to build from and OCI_DIR:TAG are expected"),
        (["-f", "F", "/none", "S:t"], "/none: not a directory to build from"),
        (["-f", "/none", "/", "S:t"], "/none: no such Containerfile"),
        (["-f", "x.yaml", "S", "S:t"], "S:t: of a stacker file, the store is named alone: layers' names are the tags"),
        (["-f", "x.yaml", "S", "--env", "A=b"], "--env has no meaning with --file x.yaml"),
        (["-f", "/none/x.yaml", "S"], "/none/x.yaml: No such file or directory"),
        (["-f", "x.yaml", "S", "--run"], "--run has no meaning with --file x.yaml"),
        (["C"], "a directory and OCI_DIR:TAG are expected"),
    ],
)
def test_what_makes_no_sense(words: list[str], text: str) -> None:
    done = run_puzzlefs("build", *words, check=False)
    assert (done.returncode, done.stderr.decode()) == (2, f"puzzlefs: {text}\n")
