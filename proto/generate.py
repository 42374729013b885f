"""Generates `src/orchy/rpc/generated` from the proto files: `python proto/generate.py [FOLDER]`.

Needs the `proto` dependency group. What it writes is committed; a test says when it is stale.
"""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).parent
GENERATED = HERE.parent / "src" / "orchy" / "rpc" / "generated"
PROTOS = ("action_service", "health")


def generate(folder: Path) -> None:
    """Write messages, type stubs and purerpc's servicers and stubs into a folder. Raises RuntimeError."""
    folder.mkdir(parents=True, exist_ok=True)
    plugin = Path(sys.executable).parent / "protoc-gen-purerpc"
    command = [
        "protoc",
        f"--proto_path={HERE}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--python_out={folder}",
        f"--pyi_out={folder}",
        f"--plugin=protoc-gen-purerpc={plugin}",
        f"--purerpc_out={folder}",
        *(f"{HERE / name}.proto" for name in PROTOS),
    ]
    if protoc.main(command) != 0:
        raise RuntimeError("protoc failed; what it said stands above")
    for name in PROTOS:
        grpc = folder / f"{name}_grpc.py"
        # The plugin imports its messages as top-level modules.
        grpc.write_text(
            re.sub(rf"^import {name}_pb2(.*)$", rf"from . import {name}_pb2\1", grpc.read_text(), flags=re.M)
        )
    (folder / "__init__.py").write_text('"""Made from the files in `proto/` by `nox -s proto`; not to be edited."""\n')


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else GENERATED)
