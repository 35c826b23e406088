"""Stacker files: substitutions, what is taken, and that everything else is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzlefs.errors import UsageError
from puzzlefs.stacker.document import parse, substitute, substitutions
from puzzlefs.stacker.layers import Import, Layer, Source, read_layers

HELLO = """
hello-stacker:
  from:
    type: docker
    url: docker://zothub.io/tools/busybox:stable
  run: |
    mkdir -p /hello-stacker-app
    echo 'echo "Hello Stacker!"' > /hello-stacker-app/hello.sh
    chmod +x /hello-stacker-app/hello.sh
  entrypoint: /hello-stacker-app/hello.sh
"""


def layers(text: str) -> list[Layer]:
    return read_layers("/home/f.yaml", parse("/home/f.yaml", text))


def one(text: str) -> Layer:
    """Return the layer `a` upon nothing, with these directives."""
    return layers("a:\n  from: {type: scratch}\n" + "".join(f"  {line}\n" for line in text.splitlines()))[0]


def test_the_file_of_the_talk() -> None:
    (layer,) = layers(HELLO)
    assert layer.name == "hello-stacker"
    assert layer.source == Source("docker", "docker://zothub.io/tools/busybox:stable")
    assert layer.run.splitlines()[:2] == ["#!/bin/sh -xe", "mkdir -p /hello-stacker-app"]
    assert layer.entrypoint == ("/hello-stacker-app/hello.sh",)
    assert layer.cmd is None and not layer.build_only


def test_every_directive() -> None:
    layer = one(
        "imports: [/abs/x, rel/y, {path: 'http://h/z?q', hash: " + "A" * 64 + ", dest: /opt/z, mode: 0755, uid: 7}]\n"
        "run: ['#!/bin/bash', echo hi]\ncmd: [a, 'b c']\nentrypoint: \"x 'y z'\"\nfull_command: f\n"
        "environment: {N: 010, E: ''}\nvolumes: /v\nlabels: {l: 1.10}\nworking_dir: /w\nruntime_user: u\n"
        "annotations: {k: true}\nbuild_only: true\nos: linux\narch: arm64\n"
    )
    assert layer.imports == (
        Import("/abs/x"),
        Import("/home/rel/y"),
        Import("http://h/z?q", "a" * 64, "/opt/z", 0o755, 7),
    )
    assert layer.run == "#!/bin/bash\necho hi"
    assert (layer.cmd, layer.entrypoint, layer.full_command) == (("a", "b c"), ("x", "y z"), ("f",))
    assert layer.environment == {"N": "010", "E": ""}
    assert (layer.volumes, layer.labels, layer.annotations) == (("/v",), {"l": "1.10"}, {"k": "true"})
    assert (layer.working_dir, layer.runtime_user, layer.build_only) == ("/w", "u", True)
    assert layer.platform.document() == {"os": "linux", "architecture": "arm64"}


def test_layers_come_after_what_they_need() -> None:
    text = (
        "c: {from: {type: built, tag: b}}\nb: {from: {type: scratch}, imports: 'stacker://a/f'}\n"
        "a: {from: {type: scratch}}\n"
    )
    assert [layer.name for layer in layers(text)] == ["a", "b", "c"]


REFUSED = {
    "f.yaml: a: directive 'binds' is not supported": "a: {from: {type: scratch}, binds: [/x]}",
    "f.yaml: a: directive 'import' is not supported: write 'imports'": "a: {from: {type: scratch}, import: /x}",
    "f.yaml: a: directive 'rum' is unknown": "a: {from: {type: scratch}, rum: x}",
    "f.yaml: directive 'config' is not supported": "config: {prerequisites: [x]}",
    "f.yaml: a: from: a map with a type is expected": "a: {run: x}",
    "f.yaml: a: from: type 'zip' is not one of docker, oci": "a: {from: {type: zip, url: x}}",
    "f.yaml: a: from: 'tag' has no meaning for type oci": "a: {from: {type: oci, url: x, tag: y}}",
    "f.yaml: a: from: url: a text is expected": "a: {from: {type: docker}}",
    "f.yaml: a: there is no layer 'z'": "a: {from: {type: built, tag: z}}",
    "f.yaml: layers that need one another: a, b": "a: {from: {type: built, tag: b}}\nb: {from: {type: built, tag: a}}",
    "f.yaml: line 2: 'a' stands twice": "a: {from: {type: scratch}}\na: {from: {type: scratch}}",
    "f.yaml: line 1: 'run' stands twice": "a: {from: {type: scratch}, run: x, run: y}",
    "f.yaml: line 2: merge keys": "a: &a {from: {type: scratch}}\nb: {<<: *a}",
    "f.yaml: not a map of names to layers": "[1, 2]",
    "f.yaml: no layers": "{}",
    "f.yaml: line 1: could not determine a constructor": "a: !!python/object:os.system {}",
    "f.yaml: line 1: expected": "a: {",
    "f.yaml: 'a/b' is not a tag": "a/b: {from: {type: scratch}}",
    "f.yaml: 'a:b': a layer's name has no ':'": "'a:b': {from: {type: scratch}}",
    "f.yaml: a: cmd: No closing quotation": 'a: {from: {type: scratch}, cmd: "it\'s"}',
    "f.yaml: a: environment: a map of texts is expected": "a: {from: {type: scratch}, environment: [A=B]}",
    "f.yaml: a: imports: hash 'x' is not": "a: {from: {type: scratch}, imports: [{path: /x, hash: x}]}",
    "f.yaml: a: imports: dest 'x' is not": "a: {from: {type: scratch}, imports: [{path: /x, dest: x}]}",
    "f.yaml: a: imports: mode: '9' is out of range": "a: {from: {type: scratch}, imports: [{path: /x, mode: 9}]}",
    "f.yaml: a: imports: two are called 'x'": "a: {from: {type: scratch}, imports: [/x, /y/x]}",
    "f.yaml: a: imports: a path that ends in '..'": "a: {from: {type: scratch}, imports: [/x/..]}",
    "f.yaml: nested too deeply": "[" * 5000,
}


@pytest.mark.parametrize("start", REFUSED)
def test_what_is_refused(start: str) -> None:
    """One sentence that names the place."""
    with pytest.raises(UsageError) as caught:
        layers(REFUSED[start])
    assert str(caught.value).startswith(f"/home/{start}")
    assert "\n" not in str(caught.value)


def test_aliases_cost_what_they_name() -> None:
    """Lists of lists of lists are no texts, however often they are named."""
    text = "x: &0 [y]\n" + "".join(f"x{n}: &{n + 1} [{', '.join([f'*{n}'] * 50)}]\n" for n in range(30))
    with pytest.raises(UsageError, match="x: not a map of directives"):
        layers(text)


def test_substitutions() -> None:
    text = "${{A}} ${{B:x y}} ${{C:}} ${{A:z}} $D ${D}"
    assert substitute("f", text, {"A": "${{B}}"}) == "${{B}} x y  ${{B}} $D ${D}"


@pytest.mark.parametrize("text", ["$A", "${A}", "x$A/y"])
def test_old_forms_of_substitution_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not replaced; write \$\{\{A\}\}"):
        substitute("f", text, {"A": "1"})
    assert substitute("f", text + "B", {"B": "1"}) == text + "B"


def test_substitution_without_a_value() -> None:
    with pytest.raises(UsageError, match=r"f: \$\{\{A\}\} has no value: --substitute A="):
        substitute("f", "${{A}}", {})


def test_substitutions_of_a_file_are_overruled(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("A: 1\nB: 2\n")
    assert substitutions(["B=3", "C=x=y"], f"{tmp_path}/s.yaml") == {"A": "1", "B": "3", "C": "x=y"}
    for pair in ("A", "1=2", "=x"):
        with pytest.raises(UsageError):
            substitutions([pair], None)
