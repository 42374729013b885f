"""Workers in other languages against a real server: `python -m tests.clients.run go java`.

Each is generated from `proto/`, built, and works off one flow; needs its toolchain and its package registry.
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

from tests.conftest import OrchyServer

HERE = Path(__file__).parent
PROTO = HERE.parents[1] / "proto"
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
    """One step of a build, or the worker. Raises CalledProcessError, TimeoutExpired."""
    print("+", *command, flush=True)
    subprocess.run(command, cwd=folder, check=True, timeout=seconds, env={**os.environ, **variables})


def protoc(folder: Path, path: str, *options: str) -> None:
    """Generate code from the contract's proto with grpcio-tools' compiler."""
    well_known = str(files("grpc_tools") / "_proto")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"-I{well_known}", *options]
    run([*command, "action_service.proto"], folder, BUILD_SECONDS, PATH=path)


def build_go(folder: Path) -> list[str]:
    """The command of the worker in Go."""
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
    """The command of the worker in Java; Maven generates and builds."""
    source = folder / "src" / "main" / "proto"
    source.mkdir(parents=True)
    shutil.copy(PROTO / "action_service.proto", source)
    run(["mvn", "-q", "-B", "package"], folder, BUILD_SECONDS)
    return ["java", "-jar", str(folder / "target" / "worker.jar")]


BUILDS: dict[str, tuple[str, Callable[[Path], list[str]]]] = {"go": ("go", build_go), "java": ("mvn", build_java)}


def work(command: list[str], folder: Path) -> None:
    """A server, a flow, the worker; the flow must be at its end."""
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


def main(languages: list[str]) -> int:
    """0 when the workers of all languages whose toolchains are here have done their work."""
    for language in languages or list(BUILDS):
        tool, build = BUILDS[language]
        if shutil.which(tool) is None:
            print(f"{language}: there is no {tool} here")
            return 1
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / language
            shutil.copytree(HERE / language, folder)
            work(build(folder), folder)
        print(f"{language}: a flow was worked off")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
