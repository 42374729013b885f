"""What one can do here: `nox -l` lists it, `nox -s NAME` does it, `nox` runs tests, types and lint."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["tests", "types", "lint"]
nox.options.reuse_existing_virtualenvs = True

PYPROJECT = nox.project.load_toml("pyproject.toml")

# What decides, and never waits: each branch of it is run by a test.
PURE = ["*/orchy/flow/*", "*/orchy/ring/*", "*/orchy/actions/*"]
PURE_TESTS = ["tests/flow", "tests/ring", "tests/actions/test_system_actions.py"]


def _install(session: nox.Session, *groups: str) -> None:
    session.install("-e", ".", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session
def tests(session: nox.Session) -> None:
    """All tests; the pure packages with their branch coverage, 100 % or it fails. `-- ARGS`: just pytest."""
    _install(session, "test", "proto")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-q", *PURE_TESTS)
    session.run("coverage", "combine", "--quiet")
    report = [f"--include={','.join(PURE)}", "--omit=*/actions/javascript/*", "--fail-under=100", "--show-missing"]
    session.run("coverage", "report", *report)
    session.run("pytest", "-q", "-n", "2", "--dist", "loadfile", *(f"--ignore={path}" for path in PURE_TESTS))


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    _install(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: lint and format. `-- --fix` mends what it can."""
    _install(session, "lint")
    session.run("ruff", "check", *(session.posargs or []), ".")
    session.run("ruff", "format", *([] if "--fix" in session.posargs else ["--check"]), ".")


@nox.session
def proto(session: nox.Session) -> None:
    """Generate the worker API's code again from `proto/`."""
    _install(session, "proto")
    session.run("python", "proto/generate.py")


@nox.session
def diagrams(session: nox.Session) -> None:
    """Draw and write again what pages have from the code: states (architecture), settings, the worker library."""
    _install(session)
    session.run("python", "docs/draw_diagrams.py")
    session.run("python", "docs/list_settings.py")
    session.run("python", "docs/write_worker_api.py")


@nox.session
def demo(session: nox.Session) -> None:
    """A server, a worker and three flows of a real workflow, each step as it happens."""
    _install(session)
    session.run("python", "-m", "orchy", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The standard work on real processes, beside goals and Celery; plots. `-- three burst`, `-- --against COMMIT`."""
    _install(session, "bench")
    session.run("python", "-m", "bench", *session.posargs, env={"CELERY_PYTHON": _celery(session)})


def _celery(session: nox.Session) -> str:
    """The Python of an environment of its own with Celery in it."""
    home = Path(session.virtualenv.location) / "celery"
    python = home / "bin" / "python"
    if not python.exists():
        session.run("python", "-m", "venv", str(home))
        session.run(str(python), "-m", "pip", "install", "-q", "celery[redis]>=5.4", external=True)
    return str(python)


@nox.session
def gossip(session: nox.Session) -> None:
    """The gossip against its goals, in virtual time and on real processes; plots into docs/. `-- --quick`."""
    _install(session, "bench")
    session.run("python", "-m", "bench.gossip", "--plots", "docs", *session.posargs)


@nox.session
def ring(session: nox.Session) -> None:
    """How many partitions move when a member joins or leaves, beside two other schemes. `-- --json FILE`."""
    _install(session)
    session.run("python", "-m", "bench.ring", *session.posargs)


@nox.session
def simulate(session: nox.Session) -> None:
    """A whole cluster in virtual time, broken by seeds. `-- --seeds 500`, `-- --seed N`, `-- --mutations`."""
    _install(session, "test")
    session.run("python", "-m", "tests.simulation", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Real nodes, workers and Redis, broken in the middle of work; a checker. `-- NAME ...`, `-- all`; none: a list."""
    _install(session, "test")
    session.run("python", "-m", "tests.faults", *session.posargs)


@nox.session
def attacks(session: nox.Session) -> None:
    """Real nodes under attack from outside, each within its bounds. `-- NAME ...`, `-- --write`: docs/security.md."""
    _install(session, "test")
    session.run("python", "-m", "tests.attacks", *session.posargs)


@nox.session
def clients(session: nox.Session) -> None:
    """Workers in Go and Java, generated from proto/, against real servers; needs their toolchains. `-- go-stream`."""
    _install(session, "test", "proto")
    session.run("python", "-m", "tests.clients.run", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site in site/, links checked. `-- --serve [PORT]` on loopback; `-- --external`: links."""
    _install(session, "docs")
    command = ["sphinx-build", "--fail-on-warning", "--keep-going", "--quiet", "-c", "docs"]
    doctrees = str(Path(session.create_tmp()) / "doctrees")
    if "--external" in session.posargs:
        session.run(*command, "-b", "linkcheck", "-d", doctrees, ".", str(Path(session.create_tmp()) / "links"))
        return
    shutil.rmtree("site", ignore_errors=True)  # a page that is gone must not stay there
    session.run(*command, "--fresh-env", "-b", "html", "-d", doctrees, ".", "site")
    session.run("python", "docs/_site/check.py", "site")
    session.run("python", "docs/_site/search.py", "site", "quarantine", "rootAction", "http-port")
    if "--serve" in session.posargs:
        port = next((argument for argument in session.posargs if argument.isdecimal()), "8000")
        session.run("python", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "site", port)
    else:
        session.log("open site/index.html in a browser, or look at it with: nox -s docs -- --serve")
