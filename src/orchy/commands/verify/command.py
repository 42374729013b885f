"""The command line of `python -m orchy verify`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException

from orchy.commands import EXIT_FAILURE, EXIT_OK, EXIT_USAGE
from orchy.commands.verify.reader import Reader
from orchy.commands.verify.verifier import Progress, Verifier
from orchy.errors import ConfigurationError

URL = "redis://127.0.0.1:6379"
PROGRESS_SECONDS = 2.0
CALL_SECONDS = 30.0


def make_parser() -> argparse.ArgumentParser:
    """The flags of `verify`."""
    parser = argparse.ArgumentParser(
        prog="python -m orchy verify",
        description="Read a namespace and say what does not add up, one line each. Changes nothing; the cluster may run"
        " meanwhile. Exit code 0: all is well; 1: something is not, or Redis can't be read.",
    )
    parser.add_argument(
        "--redis-url",
        default=URL,
        metavar="URL",
        help=f"redis://[USER:PASSWORD@]HOST:PORT, rediss:// with TLS, unix:///PATH; of a Redis Cluster any node"
        f" (default: {URL})",
    )
    parser.add_argument("--namespace", default="orchy", metavar="NAME", help="(default: orchy)")
    return parser


def run(argv: Sequence[str]) -> int:
    """Verify a namespace; the exit code is 0 if nothing is wrong."""
    options = make_parser().parse_args(argv)
    try:
        with closing(_connect(options.redis_url)) as client:
            return _verify(Reader(client, options.namespace), options.namespace)
    except ConfigurationError as error:
        print(f"orchy: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ValueError as error:
        print(f"orchy: --redis-url: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (redis.RedisError, RedisClusterException) as error:
        print(f"orchy: Redis at {_without_password(options.redis_url)} can't be read: {error}", file=sys.stderr)
        return EXIT_FAILURE


def _connect(url: str) -> Any:
    """A client of one server, or of the Redis Cluster that it belongs to."""
    client = redis.Redis.from_url(url, socket_timeout=CALL_SECONDS, socket_connect_timeout=CALL_SECONDS)
    try:
        if not client.info("cluster").get("cluster_enabled"):
            return client
    except BaseException:
        client.close()
        raise
    client.close()
    return RedisCluster.from_url(url, socket_timeout=CALL_SECONDS)


def _verify(reader: Reader, namespace: str) -> int:
    printed_at = time.monotonic()

    def print_progress(progress: Progress) -> None:
        nonlocal printed_at
        if time.monotonic() - printed_at >= PROGRESS_SECONDS:
            printed_at = time.monotonic()
            print(f"verify: {progress}", file=sys.stderr, flush=True)

    if reader.partitions() is None:
        print(f"verify: nobody has used the namespace {namespace!r} there", file=sys.stderr)
    verifier = Verifier(reader, print_progress)
    findings = 0
    for finding in verifier.run():
        findings += 1
        print(finding, flush=True)
    print(f"verify: {verifier.progress}; {findings:,} findings", file=sys.stderr)
    return EXIT_FAILURE if findings else EXIT_OK


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
