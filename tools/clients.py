"""`make clients`: a Python wheel with the contracts' messages and stubs, for projects that call the
services.

It needs protobuf and grpcio, from the versions that its code was generated for;
googleapis-common-protos, for google.type.Money and the error details; and grpcio-status, which
reads those details from a failed call. The same contracts make the same bytes; no network is
needed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "ordermesh-client"
# The time of every file in the archive: the earliest that the format allows.
EPOCH = "315532800"
GRPC_VERSION = re.compile(r"^GRPC_GENERATED_VERSION = '([^']+)'", re.MULTILINE)
# Generated code runs under its own major version of protobuf and under the next one: protobuf's
# cross-version runtime guarantee. tests/system/test_client_wheel.py runs it under both ends.
PROTOBUF_MAJORS = 2
PROTOBUF_VERSION = re.compile(
    r"ValidateProtobufRuntimeVersion\(\s*_runtime_version\.Domain\.PUBLIC,"
    r"\s*(\d+),\s*(\d+),\s*(\d+)"
)

PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{version}"
description = "Messages and gRPC stubs of ordermesh, and the messages of its events"
readme = "README.md"
requires-python = "{python}"
dependencies = [
    "googleapis-common-protos>=1.70.0,<2",
    "grpcio>={grpc},<2",
    "grpcio-status>={grpc},<2",
    "protobuf>={protobuf},<{protobuf_after}",
]

[tool.setuptools]
package-dir = {{"" = "src"}}
packages = {packages}

[tool.setuptools.package-data]
"*" = ["*.pyi", "py.typed"]
"""

README = """\
# ordermesh-client

Messages and gRPC stubs of ordermesh. Every call needs a deadline (`timeout`). A call that changes
something takes a `request_id`, the same on each retry.

```python
import grpc
from ordermesh.order.v1.order_service_pb2 import ListOrdersRequest
from ordermesh.order.v1.order_service_pb2_grpc import OrderServiceStub

with grpc.insecure_channel("127.0.0.1:15051") as channel:
    service = OrderServiceStub(channel)
    for order in service.ListOrders(ListOrdersRequest(page_size=5), timeout=5).orders:
        print(order.order_number, order.status)
```
"""


def build(output: Path) -> Path:
    """Builds the wheel into `output`; returns its path. Raises CalledProcessError if a tool
    fails.
    """
    with tempfile.TemporaryDirectory(prefix="ordermesh-client-") as folder:
        project = Path(folder)
        _run(
            ROOT / ".venv/bin/buf",
            "generate",
            "--template",
            ROOT / "buf.gen.clients.yaml",
            "--output",
            project,
        )
        packages = list(_packages(project / "src"))
        (project / "pyproject.toml").write_text(_pyproject(project / "src", packages))
        (project / "README.md").write_text(README)
        _run(
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            project / "dist",
            project,
        )
        [wheel] = (project / "dist").iterdir()
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(wheel, output / wheel.name))


def _run(*command: str | Path) -> None:
    """Runs a tool; prints its output if it fails."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": EPOCH}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, umask=0o022, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        sys.stderr.write(result.stdout + result.stderr)
        result.check_returncode()


def _packages(source: Path) -> Iterator[str]:
    """Creates an __init__.py in each folder below `source`, and yields the packages' names. Marks
    the root package, and so all, as typed.
    """
    (source / "ordermesh" / "py.typed").touch()
    for folder in sorted(path for path in source.rglob("*") if path.is_dir()):
        name = ".".join(folder.relative_to(source).parts)
        (folder / "__init__.py").write_text(f'"""Generated from the contracts of {name}."""\n')
        yield name


def _pyproject(source: Path, packages: list[str]) -> str:
    """Returns the wheel's project file. Its version bounds are those that the generated code
    checks when it is imported.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    grpc = {
        found
        for path in source.rglob("*_pb2_grpc.py")
        for found in GRPC_VERSION.findall(path.read_text())
    }
    protobuf = {
        found
        for path in source.rglob("*_pb2.py")
        for found in PROTOBUF_VERSION.findall(path.read_text())
    }
    [[grpc_version], [protobuf_version]] = [grpc, protobuf]
    return PYPROJECT.format(
        name=NAME,
        version=project["version"],
        python=project["requires-python"],
        grpc=grpc_version,
        protobuf=".".join(protobuf_version),
        protobuf_after=int(protobuf_version[0]) + PROTOBUF_MAJORS,
        packages=packages,
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="tools/clients.py", description="Builds the Python client wheel."
    )
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="where it goes (dist)")
    print(build(parser.parse_args(arguments).output))


if __name__ == "__main__":
    main(sys.argv[1:])
