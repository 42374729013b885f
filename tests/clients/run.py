"""Workers in other languages against real servers: `python -m tests.clients.run go go-stream java`.

Each one is generated from `proto/`, built and tried. It needs its toolchain and package registry. Without names, those
whose toolchains are installed are tried, and the others are reported as skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from tests.clients import streaming
from tests.conftest import OrchyServer

HERE = Path(__file__).parent
PROTO = HERE.parents[1] / "proto"
#: Toolchains, and where to get them.
PACKAGES = {"go": "golang-go", "mvn": "maven"}
BUILD_SECONDS = 600
RUN_SECONDS = 120
WORKFLOW = {
    "name": "two",
    "rootAction": 1,
    "actions": [
        {"id": 1, "type": "user", "name": "first", "parameters": {"n": "{$.input.n}"}, "next": {"default": [2]}},
        {"id": 2, "type": "user", "name": "second", "parameters": {"n": "{$.1.output.n}"}},
    ],
}


def run(command: list[str], folder: Path, seconds: float, **variables: str) -> None:
    """Run one step of a build, or a worker. Raises CalledProcessError or TimeoutExpired."""
    print("+", *command, flush=True)
    subprocess.run(command, cwd=folder, check=True, timeout=seconds, env={**os.environ, **variables})


def protoc(folder: Path, path: str, *options: str) -> None:
    """Generate code from the contract's proto with grpcio-tools' compiler."""
    well_known = str(files("grpc_tools") / "_proto")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{well_known}", *options]
    run([*command, "action_service.proto"], folder, BUILD_SECONDS, PATH=path)


def build_go(folder: Path) -> list[str]:
    """Build the worker in Go; return its command."""
    tools = folder / "bin"
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    for tool in ("google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"):
        run(["go", "install", f"{tool}@latest"], folder, BUILD_SECONDS, GOBIN=str(tools))
    (folder / "api").mkdir()
    package = "Maction_service.proto=orchy.test/client/api;api"
    protoc(folder, path, "--go_out=api", f"--go_opt={package},paths=source_relative", "--go-grpc_out=api",
           f"--go-grpc_opt={package},paths=source_relative")  # fmt: skip
    run(["go", "mod", "tidy"], folder, BUILD_SECONDS)
    run(["go", "build", "-o", "worker", "."], folder, BUILD_SECONDS)
    return [str(folder / "worker")]


def build_java(folder: Path) -> list[str]:
    """Build the worker in Java, with code that Maven generates; return its command."""
    source = folder / "src" / "main" / "proto"
    source.mkdir(parents=True)
    shutil.copy(PROTO / "action_service.proto", source)
    run(["mvn", "-q", "-B", "package"], folder, BUILD_SECONDS)
    return ["java", "-jar", str(folder / "target" / "worker.jar")]


def work(command: list[str], folder: Path) -> None:
    """Start a server, a flow and the worker. Raises AssertionError if the flow does not complete."""
    server = OrchyServer(["--data-dir", str(folder / "data")], folder / "server.log").start()
    try:
        server.post("/workflow", WORKFLOW)
        flow_id = server.post("/flow/execute", {"name": "two", "input": {"n": 40}})["flowId"]
        run([*command, server.grpc], folder, RUN_SECONDS)
        flow = server.get(f"/flow/{flow_id}")
        assert flow["state"] == "COMPLETED", flow
        assert flow["data"]["2"]["output"] == {"n": 42}, flow
    finally:
        server.stop()


#: By the name of a folder: its toolchain, how it is built, and what it is tried with.
CLIENTS: dict[str, tuple[str, Callable[[Path], list[str]], Callable[[list[str], Path], None]]] = {
    "go": ("go", build_go, work),
    "go-stream": ("go", build_go, streaming.work),
    "java": ("mvn", build_java, work),
}


def main(names: list[str]) -> int:
    """Exit code 1 if a worker was named whose toolchain is not installed; a worker that fails raises."""
    unknown = set(names) - CLIENTS.keys()
    if unknown:
        print(f"there is no client {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}")
        return 2
    for name in names or CLIENTS:
        tool, build, attempt = CLIENTS[name]
        if shutil.which(tool) is None:
            print(f"{name}: skipped, there is no {tool} here (with Debian: apt install {PACKAGES[tool]})")
            if names:
                return 1
            continue
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / name
            shutil.copytree(HERE / name, folder)
            attempt(build(folder), folder)
        print(f"{name}: did its work")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
