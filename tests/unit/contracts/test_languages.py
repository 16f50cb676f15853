"""The contracts in other languages: generated code for Go and Java compiles without options.

The compilers are Debian packages; `.ci/run` installs them. Where one is missing, the test names
what it did not check.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.contracts import rules

SOURCES = [
    rules.ROOT / "proto",
    *(rules.ROOT / "third_party" / name for name in ("googleapis", "protovalidate")),
]
JAVA_RUNTIME = Path("/usr/share/java/protobuf.jar")
GO_RUNTIME = Path("/usr/share/gocode")
PACKAGES = {
    "protoc": "protobuf-compiler",
    "protoc-gen-go": "protoc-gen-go",
    "go": "golang-go",
    "javac": "default-jdk-headless",
    str(JAVA_RUNTIME): "libprotobuf-java",
    str(GO_RUNTIME / "src/google.golang.org/protobuf"): "golang-google-protobuf-dev",
}


def need(*tools: str) -> None:
    """Skips the test where a tool is missing, and names its Debian package."""
    missing = [PACKAGES[tool] for tool in tools if not (shutil.which(tool) or Path(tool).exists())]
    if missing:
        pytest.skip(
            f"NOT CHECKED: that the generated code compiles. Install {', '.join(missing)} (Debian"
            " packages)"
        )


def run(*command: str | Path, folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """Runs a tool in the folder. Raises AssertionError with the tool's output if it fails."""
    finished = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def generate(option: str, folder: Path) -> None:
    """Generates all contracts, and the third-party ones that they import, with this one option of
    protoc.
    """
    protos = [
        str(path.relative_to(source))
        for source in SOURCES
        for path in sorted(source.rglob("*.proto"))
    ]
    run(
        "protoc",
        *(f"-I{source}" for source in SOURCES),
        f"{option}={folder}",
        *protos,
        folder=folder,
    )


def test_go_without_mappings_compiles(tmp_path: Path) -> None:
    """`protoc --go_out` needs no M-option: each contract names its Go package, and all of them
    compile.
    """
    gocode = GO_RUNTIME / "src/google.golang.org/protobuf"
    need("protoc", "protoc-gen-go", "go", str(gocode))
    (tmp_path / "src").mkdir()
    generate("--go_out", tmp_path / "src")
    built = {
        "GO111MODULE": "off",
        "GOPATH": f"{tmp_path}{os.pathsep}{GO_RUNTIME}",
        "GOCACHE": str(tmp_path / "cache"),
        "GOFLAGS": "-p=1",
    }
    run("go", "build", "./src/github.com/ordermesh/...", folder=tmp_path, environment=built)


def test_java_compiles(tmp_path: Path) -> None:
    """`protoc --java_out`: one class a file, in the package that the contract names, and all
    compile. Of the third-party contracts, what ours refer to is read from its sources.
    """
    need("protoc", "javac", str(JAVA_RUNTIME))
    sources, classes = tmp_path / "java", tmp_path / "classes"
    sources.mkdir()
    classes.mkdir()
    generate("--java_out", sources)
    assert (sources / "com/ordermesh/order/v1/Order.java").exists()
    files = tmp_path / "files"
    ours = sorted((sources / "com/ordermesh").rglob("*.java"))
    files.write_text("\n".join(map(str, ours)))
    quick = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "-J-Xms1g", "-nowarn", "-proc:none")
    others = ("-cp", JAVA_RUNTIME, "-sourcepath", sources, "-implicit:none")
    run("javac", *quick, *others, "-d", classes, f"@{files}", folder=tmp_path)
    assert (classes / "com/ordermesh/order/v1/Order.class").exists()
