"""A page as a reader follows it: its files, its commands in their order, its terminals, on ports of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import attrs

from orchy.commands.demo.processes import free_port
from tests.docs.answers import Differs, Ids, compare
from tests.docs.pages import Block, Comment, Page, page_named

ANSWER_SECONDS = 40.0
COMMAND_SECONDS = 120.0
READY_SECONDS = 40.0
STOP_SECONDS = 30.0
#: The ports that pages use: REST, workers, gossip, Redis. Each stands for a free one.
PORT = re.compile(r"(?<![\w.-])(80[89]\d|840\d|6379)(?![\w.-]*\d)")
REST, WORKERS, GOSSIP = "8080", "8099", "8400"

# Without a subcommand it is a server.
_SERVER = re.compile(r"(-m orchy|bin/orchy|^orchy)(?=\s+-|\s*$|\s+[\\#&])")
_WRITES = re.compile(r"(^| )(--json|-d|--data\S*|-X|--request|-T)\b")


@attrs.frozen
class Command:
    """A command of a block, and the answer that the page shows, if it does."""

    line: int
    text: str
    answer: str | None

    @property
    def starts_server(self) -> bool:
        return _SERVER.search(self.text) is not None

    @property
    def asks_only(self) -> bool:
        """Whether it may be sent again without doing anything twice."""
        return "curl " in self.text and not _WRITES.search(self.text)


def commands(text: str, first_line: int) -> list[Command]:
    """The `$` lines of a block with the lines below them. Raises ValueError for one that begins with something else."""
    found: list[Command] = []
    shown: list[str] = []

    def close() -> None:
        if found and any(line.strip() for line in shown):
            found[-1] = attrs.evolve(found[-1], answer="\n".join(shown))
        shown.clear()

    lines = iter(enumerate(text.splitlines(), first_line))
    for number, line in lines:
        if line.startswith("$ "):
            close()
            command = line[2:]
            while command.endswith("\\") or _is_open(command):
                command += "\n" + next(lines)[1].removeprefix("> ")
            found.append(Command(number, command, None))
        elif found:
            shown.append(line)
        elif line.strip():
            raise ValueError(f"line {number} is no command: begin it with '$ '")
    close()
    return found


def _is_open(command: str) -> bool:
    """Whether a quote does not end on its line."""
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False


@attrs.define
class Terminal:
    """A command that goes on; what it says is in a file."""

    command: Command
    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def end(self) -> None:
        """However it is now, nothing of it is left after this: it has a process group of its own."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


@attrs.define
class Session:
    """One reader of one page. Use `follow`, then `close`."""

    page: Page
    folder: Path
    ports: dict[str, int] = attrs.field(factory=dict)
    terminals: dict[str, Terminal] = attrs.field(factory=dict)
    ids: Ids = attrs.field(factory=Ids)
    flow_id: str | None = None

    def follow(self) -> None:
        """Do all that the page says, in its order. Raises AssertionError with the place of what went otherwise."""
        self._make_programs()
        all_commands = list(self._all_commands())
        needs_server = any(PORT.search(command.text) for command in all_commands)
        if needs_server and not any(command.starts_server for command in all_commands):
            self._open_terminal("", Command(0, "python -m orchy", None))
        for item in self.page.items:
            if isinstance(item, Comment):
                self._obey(item)
            else:
                self._write_file(item)
                if item.not_run is None:
                    self._run_block(item)

    def close(self) -> None:
        """End what still runs, the last one first."""
        for terminal in reversed(self.terminals.values()):
            terminal.end()

    def port(self, shown: str) -> int:
        """The port that stands for one on the page."""
        if shown not in self.ports:
            self.ports[shown] = free_port()
        return self.ports[shown]

    def fill_in(self, text: str) -> str:
        """A text of the page with the ports and ids of this session."""
        text = PORT.sub(lambda match: str(self.port(match[1])), self.ids.fill_in(text))
        return text.replace("FLOW_ID", self.flow_id) if self.flow_id else text

    def _all_commands(self) -> Iterator[Command]:
        for item in self.page.items:
            if isinstance(item, Comment) and item.kind == "setup":
                yield from commands(item.body, item.line + 1)
            elif isinstance(item, Block) and item.not_run is None and item.has_commands:
                yield from commands(item.text, item.line + 1)

    def _make_programs(self) -> None:
        """`python` is this one, `curl` fails for a refusal where the page shows no answer; also in `.venv`."""
        programs = self.folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        curl = shutil.which("curl")
        assert curl, "the examples need curl"
        scripts = {
            "curl": f'exec {curl} --silent --show-error --max-time {ANSWER_SECONDS:.0f} $CURL_FLAGS "$@"',
            "python": f'exec {shlex.quote(sys.executable)} "$@"',
            "orchy": f'exec {shlex.quote(sys.executable)} -m orchy "$@"',
        }
        scripts["python3"] = scripts["python"]
        for name, script in scripts.items():
            (programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (programs / name).chmod(0o755)

    def _environment(self, command: str, **more: str) -> dict[str, str]:
        mine = {name: value for name, value in os.environ.items() if not name.startswith("ORCHY_")}
        mine |= {"PATH": f"{self.folder / '.venv' / 'bin'}:{mine['PATH']}", "PYTHONUNBUFFERED": "1", **more}
        if "--config-file" not in command:  # a flag beats these, and they would beat the file
            mine |= {
                "ORCHY_HTTP_PORT": str(self.port(REST)),
                "ORCHY_GRPC_PORT": str(self.port(WORKERS)),
                "ORCHY_BIND_ADDR": f"127.0.0.1:{self.port(GOSSIP)}",
            }
        return mine

    def _obey(self, comment: Comment) -> None:
        if comment.kind == "files":
            for block in page_named(comment.body).blocks:
                self._write_file(block)
        elif comment.kind == "setup":
            for command in commands(comment.body, comment.line + 1):
                if command.text.endswith("&"):
                    text = command.text.removesuffix("&").rstrip()
                    self._open_terminal(f"line {command.line}", attrs.evolve(command, text=text))
                else:
                    self._run(command)
        elif comment.kind in ("stop", "kill"):
            self._end_terminal(comment)

    def _end_terminal(self, comment: Comment) -> None:
        terminal = self.terminals.pop(comment.body, None)
        assert terminal, f"{self.page.name}:{comment.line}: no terminal is named {comment.body!r}"
        try:
            assert terminal.process.poll() is None, f"it had ended before: {terminal.text()}"
            terminal.process.send_signal(signal.SIGKILL if comment.kind == "kill" else signal.SIGTERM)
            code = terminal.process.wait(STOP_SECONDS)
            assert comment.kind == "kill" or code == 0, terminal.text()
        finally:
            terminal.end()

    def _write_file(self, block: Block) -> None:
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.fill_in(block.text) + "\n", "utf-8")

    def _run_block(self, block: Block) -> None:
        if block.language == "bash":
            self._run(Command(block.line, f"set -e\n{block.text}", None))
        if block.language != "console":
            return
        if name := block.option("shows"):
            assert name in self.terminals, f"{block.place}: no terminal is named {name!r}"
            self._wait_for(self.terminals[name], block.text, block.line)
            return
        *before, last = commands(block.text, block.line + 1)
        for command in before:
            self._run(command, until="until" in block.words)
        if name := block.option("terminal"):
            self._open_terminal(name, last)
        else:
            self._run(last, until="until" in block.words)

    def _run(self, command: Command, until: bool = False) -> None:
        """Run it, again and again where that may be, until it answers as the page says."""
        give_up_at = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                self._run_once(command)
                return
            except Differs as error:
                if not (until or command.asks_only) or time.monotonic() > give_up_at:
                    said = "".join(f"\n--- {name or 'server'}\n{t.text()}" for name, t in self.terminals.items())
                    raise AssertionError(
                        f"{self.page.name}:{command.line}: {command.text}\nshown: {command.answer}\n{error}{said}"
                    ) from None
                time.sleep(0.1)

    def _run_once(self, command: Command) -> None:
        text = self.fill_in(command.text)
        flags = "--fail-with-body" if command.answer is None else ""
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self.folder,
            env=self._environment(text, CURL_FLAGS=flags),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            text=True,
            check=False,
        )
        if command.answer is not None:
            self.ids = compare(self._shown(command.answer), done.stdout, self.ids)
        elif done.returncode != 0:
            raise Differs(f"it ended with {done.returncode}: {done.stdout}")
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            return
        if isinstance(answer, dict) and "flowId" in answer:
            self.flow_id = answer["flowId"]

    def _shown(self, answer: str) -> str:
        """The page's ports are this session's; its ids are compared by `answers`."""
        return PORT.sub(lambda match: str(self.port(match[1])), answer)

    def _open_terminal(self, name: str, command: Command) -> None:
        assert name not in self.terminals, f"{self.page.name}:{command.line}: there is a terminal {name!r} already"
        text = self.fill_in(command.text)
        log = self.folder / f"terminal-{len(list(self.folder.glob('terminal-*.log')))}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", text],
                cwd=self.folder,
                env=self._environment(text, CURL_FLAGS=""),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        terminal = self.terminals[name] = Terminal(command, process, log)
        if command.starts_server:
            flag = re.search(r"--http-port[ =](\d+)", text)
            self._wait_until_ready(terminal, int(flag[1]) if flag else self.port(REST))
        if command.answer is not None:
            self._wait_for(terminal, command.answer, command.line)

    def _wait_until_ready(self, terminal: Terminal, port: int) -> None:
        place = f"{self.page.name}:{terminal.command.line}: {terminal.command.text}"
        give_up_at = time.monotonic() + READY_SECONDS
        while True:
            assert terminal.process.poll() is None, f"{place}\nhas ended: {terminal.text()}"
            assert time.monotonic() < give_up_at, f"{place}\nis not ready: {terminal.text()}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)

    def _wait_for(self, terminal: Terminal, lines: str, at: int) -> None:
        """Until these lines are in what the terminal says, in this order."""
        shown = "\n".join(f"...\n{line}" for line in self._shown(lines).strip().splitlines()) + "\n..."
        give_up_at = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                self.ids = compare(shown, terminal.text(), self.ids)
                return
            except Differs as error:
                if time.monotonic() > give_up_at:
                    message = f"{self.page.name}:{at}: {terminal.command.text}\nshown: {lines}\n{error}"
                    raise AssertionError(message) from None
                time.sleep(0.1)
