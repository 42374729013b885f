"""docs/protocol.md is what strangers write workers by: it names all there is to the protocol, and says the limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchy.dispatch.attempt_leases import LEASE_MS_MAX, LEASE_MS_MIN
from orchy.flow.definition import RETRY_AFTER_SECONDS_MAX, RETRY_COUNT_MAX, TIMEOUT_SECONDS_MAX
from orchy.flow.limits import FLOW_BYTES_MAX, LATE_RESULTS_MAX
from orchy.rpc.api import convert, leases, servicer, session, sessions
from orchy.rpc.api.limits import SessionLimits, SessionTiming
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc import call, values, write_buffer
from orchy.rpc.grpc.limits import STREAMS_MAX, ConnectionLimits, ConnectionTiming, ServerLimits
from orchy.rpc.http2 import flood, headers
from orchy.rpc.http2.limits import FloodLimits
from orchy.store.limits import BATCH_MAX

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
MIB = 2**20

SESSION, TIMING = SessionLimits(), SessionTiming()
CONNECTION, WAITS, FLOOD = ConnectionLimits(), ConnectionTiming(), FloodLimits()

MESSAGES = list(pb.DESCRIPTOR.message_types_by_name.values())
FIELDS = [(message.name, field.name, field.number) for message in MESSAGES for field in message.fields]
METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["ActionService"].methods]


def _rows() -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line[:1] == "|"]


def _limit(what: str) -> str:
    (limit,) = [row[1] for row in _rows() if row[0] == what]
    return limit


@pytest.mark.parametrize("name", [*METHODS, *(message.name for message in MESSAGES)])
def test_each_call_and_message_is_on_the_page(name):
    assert f"`{name}`" in PAGE or f"`{name}`s" in PAGE


@pytest.mark.parametrize(("message", "field", "number"), FIELDS)
def test_each_field_is_on_the_page_with_its_number(message, field, number):
    """In the table of its message, or in a sentence that has the name of the message before it."""
    for head in (row for row in _rows() if row[0] == f"field of `{message}`"):
        table = PAGE.split(f"| {head[0]} |", 1)[1].split("\n\n", 1)[0]
        for line in table.splitlines()[2:]:
            names, numbers = (cell.strip().split(", ") for cell in line.strip("|").split("|")[:2])
            if (f"`{field}`", str(number)) in zip(names, numbers, strict=True):
                return
    said = [PAGE[match.end() :][:600].split("\n\n", 1)[0] for match in re.finditer(rf"`{message}`", PAGE)]
    assert any(re.search(rf"`{field}`\s+\({number}[,)]", text) for text in said)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("a message to the server", f"{call.MESSAGE_BYTES_MAX // MIB} MiB"),
        ("results, extensions, `holding` or `missing` in one message", f"{SESSION.items_max:,}"),
        ("results of a `PushAll`, attempts of a `Renew`", f"{servicer.RESULTS_MAX:,}"),
        ("credit of a stream, with what is on its way or unread", f"{SESSION.credit_max:,} attempts"),
        ("credit below zero, of one action", f"{SESSION.credit_max:,} attempts"),
        ("actions of a stream", f"{SESSION.actions_max:,}"),
        ("characters of an action's name", f"{session.NAME_CHARACTERS_MAX}"),
        ("messages with results or extensions that have no answer yet", f"{SESSION.messages_at_once}"),
        ("work that the worker has not read", f"{SESSION.unsent_bytes_max // MIB} MiB"),
        ("streams of workers at one server", f"{SESSION.sessions_max:,}"),
        ("connections to one server", f"{ServerLimits().connections_max:,}"),
        ("calls at the same time on one connection", f"{STREAMS_MAX:,}"),
        (
            "unread requests of one connection, of all",
            f"{CONNECTION.requests_bytes_max // MIB} MiB, {call.BufferQuota().bytes_max // MIB} MiB",
        ),
        ("time for a request, or a message of a stream, to arrive", f"{WAITS.request_seconds:g} s"),
        ("time for the answer of a call to be taken", f"{write_buffer.SEND_SECONDS:g} s"),
        ("headers of a call", f"{headers.HEADER_BYTES_MAX // 1024} KiB"),
        (
            "time for a connection to begin as HTTP/2, and for a TLS handshake",
            f"{WAITS.handshake_seconds:g} s",
        ),
    ],
)
def test_a_limit_is_what_the_page_says(what, said):
    assert _limit(what) == said


@pytest.mark.parametrize(
    "said",
    [
        f"nothing has arrived for {WAITS.ping_after_seconds:g} s",
        f"no answer comes within {WAITS.ping_answer_seconds:g} s",
        f"send {FLOOD.idle_frames_max:,} of them in {WAITS.flood_seconds:g} s",
        f"reset {FLOOD.resets_max:,} streams",
        f"DATA of less than {flood.DATA_BYTES_MIN} bytes",
        f"at most {values.DEPTH_MAX} lists and objects",
        f"at most {FLOW_BYTES_MAX // MIB} MiB",
        f"{convert.ERROR_CHARACTERS_MAX:,} characters are taken",
        f"{convert.WORKER_CHARACTERS_MAX} characters are taken",
        f"above {BATCH_MAX} means {BATCH_MAX}",
        f"for up to {servicer.WAIT_MAX_SECONDS * 1000:,.0f};",
        f"at least {LEASE_MS_MIN:,} and at most {LEASE_MS_MAX:,}",
        f"0 to {RETRY_COUNT_MAX:,};",
        f"up to {RETRY_AFTER_SECONDS_MAX:,}",
        f"within {TIMING.answer_seconds:g} s",
        f"{sessions.LEASE_SECONDS:g} s by default",
        f"stops reading at {SESSION.messages_at_once}",
        f"At most {leases.ASKS_MAX:,}, to be answered at once",
    ],
)
def test_a_number_is_what_the_page_says(said):
    assert said.lower() in re.sub(r"\s+", " ", PAGE).lower()


def test_numbers_that_the_page_has_in_words():
    assert (LATE_RESULTS_MAX, TIMEOUT_SECONDS_MAX, SESSION.message_bytes) == (10, RETRY_AFTER_SECONDS_MAX, MIB)
    assert WAITS.handshake_seconds == ServerLimits().handshake_seconds
    assert session.NAME_CHARACTERS_MAX == servicer.NAME_LENGTH_MAX
