"""A protoc plugin for `buf generate`: the stubs of each file that has a service, and their types.

The grpc_python generator is built into grpcio-tools and has no plugin of its own. mypy-protobuf's
plugin also writes types for files without a service, for which there is no module; it gets none of
them.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from grpc_tools import protoc

TYPES = Path(sys.executable).with_name("protoc-gen-mypy_grpc")


def generate(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Returns the `*_pb2_grpc.py` and `.pyi` of each requested file with a service.

    protoc's failure becomes the response's error.
    """
    requested = set(request.file_to_generate)
    wanted = sorted(f.name for f in request.proto_file if f.service and f.name in requested)
    if not wanted:
        return plugin_pb2.CodeGeneratorResponse(
            supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
        )
    request.file_to_generate[:] = wanted
    response = _types(request)
    with tempfile.TemporaryDirectory() as folder:
        descriptors, out = Path(folder, "descriptors.binpb"), Path(folder, "out")
        files = descriptor_pb2.FileDescriptorSet(file=request.proto_file)
        descriptors.write_bytes(files.SerializeToString())
        out.mkdir()
        source = f"--descriptor_set_in={descriptors}"
        status = protoc.main(["protoc", source, f"--grpc_python_out={out}", *wanted])
        if status:
            response.error = f"grpc_tools.protoc ended with {status}"
        for path in sorted(out.rglob("*.py")):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text())
    return response


def _types(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Returns the response of mypy-protobuf's plugin. Raises CalledProcessError if it fails."""
    message = request.SerializeToString()
    result = subprocess.run([TYPES], input=message, stdout=subprocess.PIPE, check=True)
    return plugin_pb2.CodeGeneratorResponse.FromString(result.stdout)


if __name__ == "__main__":
    answer = generate(plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(answer.SerializeToString())
