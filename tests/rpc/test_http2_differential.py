"""Our machine at both ends, and beside somebody else's (h2): the same talk, in the same pieces, is understood alike."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchy.rpc.http2.events import DataReceived, Event, HeadersReceived, Role, StreamReset
from orchy.rpc.http2.frames import ErrorCode
from orchy.rpc.http2.headers import encode_block
from orchy.rpc.http2.limits import Http2Limits
from orchy.rpc.http2.machine import Http2

WINDOW_BYTES = 70_000
QUIET = settings(max_examples=60, deadline=None, derandomize=True, database=None)

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12).map("x-".__add__)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30).map(str.strip)
fields = st.dictionaries(names, values, max_size=6)
bodies = st.lists(st.integers(0, 60_000), max_size=4)


@st.composite
def exchanges(draw: Any) -> list[tuple[dict[str, str], list[int], dict[str, str] | None]]:
    """Messages: headers, sizes of the parts of a body, perhaps trailers."""
    return draw(st.lists(st.tuples(fields, bodies, st.none() | fields.filter(bool)), min_size=1, max_size=5))


def machine(role: Role) -> Http2:
    return Http2(role, Http2Limits(100, WINDOW_BYTES, 2 * WINDOW_BYTES))


class Collected:
    """What arrived on each stream: headers, body, trailers."""

    def __init__(self) -> None:
        self.headers: dict[int, dict[str, str]] = {}
        self.body: dict[int, bytes] = {}
        self.trailers: dict[int, dict[str, str]] = {}
        self.ended: set[int] = set()

    def take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case HeadersReceived(stream, headers, ended):
                    (self.trailers if stream in self.headers else self.headers)[stream] = dict(headers.fields)
                case DataReceived(stream, data, ended):
                    self.body[stream] = self.body.get(stream, b"") + data
                case StreamReset():
                    pytest.fail(str(event))
                case _:
                    continue
            if ended:
                self.ended.add(stream)


def carry(sender: Http2, receiver: Http2, pieces: int, collected: Collected, back: Collected) -> None:
    """Everything that both have to say, in pieces of a size."""
    while True:
        there = sender.data_to_send()
        for at in range(0, len(there), pieces):
            collected.take(receiver.receive(there[at : at + pieces]))
        returned = receiver.data_to_send()
        back.take(sender.receive(returned))
        if not there and not returned:
            return


def send_body(sender: Http2, stream: int, data: bytes, flow: Any) -> None:
    """As the windows allow."""
    while data:
        sendable_bytes = sender.sendable_bytes(stream)
        if sendable_bytes <= 0:
            flow()
            assert sender.sendable_bytes(stream) > 0, "the windows are given back"
            continue
        sender.send_data(stream, data[:sendable_bytes])
        data = data[sendable_bytes:]


@QUIET
@given(exchanges(), st.sampled_from([7, 100, 65_536]))
def test_our_client_and_our_server_understand_each_other(messages, pieces):
    client, server = machine(Role.CLIENT), machine(Role.SERVER)
    asked, answered = Collected(), Collected()
    request = {":method": "POST", ":scheme": "http", ":path": "/x"}
    for sender, receiver, here, there in ((client, server, asked, answered), (server, client, answered, asked)):

        def flow(sender=sender, receiver=receiver, here=here, there=there) -> None:
            carry(sender, receiver, pieces, here, there)

        for number, (head, sizes, tail) in enumerate(messages):
            block = encode_block(({**request, **head} if sender is client else {":status": "200", **head}).items())
            stream = 2 * number + 1
            if sender is client:
                assert client.open_stream(block) == stream
            else:
                server.send_headers(stream, block)
            for size in sizes:
                send_body(sender, stream, bytes(size), flow)
            if tail is None:
                sender.send_data(stream, b"", end_stream=True)
            else:
                sender.send_headers(stream, encode_block(tail.items()), end_stream=True)
        flow()
    for collected, pseudo in ((asked, request), (answered, {":status": "200"})):
        for number, (head, sizes, tail) in enumerate(messages):
            stream = 2 * number + 1
            assert collected.headers[stream] == {**pseudo, **head}
            assert len(collected.body.get(stream, b"")) == sum(sizes)
            assert collected.trailers.get(stream) == tail
            assert stream in collected.ended
    assert not client._streams
    assert not server._streams


@QUIET
@given(exchanges(), st.sampled_from([50, 65_536]))
def test_h2_as_a_client_and_our_server_understand_each_other(messages, pieces):
    """h2 packs headers with tables and Huffman; what it says is what we hear, and what we say is what it hears."""
    theirs = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    theirs.initiate_connection()
    ours, heard = machine(Role.SERVER), Collected()
    told: list[Any] = []

    def flow() -> None:
        while True:
            there = theirs.data_to_send()
            for at in range(0, len(there), pieces):
                heard.take(ours.receive(there[at : at + pieces]))
            back = ours.data_to_send()
            events = theirs.receive_data(back) if back else []
            for event in events:
                if isinstance(event, h2.events.DataReceived):
                    theirs.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            told.extend(events)
            if not there and not back:
                return

    flow()
    for number, (head, sizes, tail) in enumerate(messages):
        stream = 2 * number + 1
        theirs.send_headers(
            stream, [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "a"), *head.items()]
        )
        for size in sizes:
            while size:
                sendable_bytes = min(theirs.local_flow_control_window(stream), 16_384, size)
                if not sendable_bytes:
                    flow()
                    assert theirs.local_flow_control_window(stream)
                    continue
                theirs.send_data(stream, bytes(sendable_bytes), pad_length=None if sendable_bytes > 16_000 else number)
                size -= sendable_bytes
                flow()
        if tail is None:
            theirs.end_stream(stream)
        else:
            theirs.send_headers(stream, list(tail.items()), end_stream=True)
        flow()
        assert heard.headers[stream] == {":method": "POST", ":scheme": "http", ":path": "/x", ":authority": "a", **head}
        assert len(heard.body.get(stream, b"")) == sum(sizes)
        assert heard.trailers.get(stream) == tail
        ours.send_headers(stream, encode_block([(":status", "200"), *head.items()]))
        for size in sizes:
            send_body(ours, stream, bytes(size), flow)
        ours.send_headers(stream, encode_block([("grpc-status", "0")]), end_stream=True)
        flow()
    for number, (head, sizes, _) in enumerate(messages):
        of_stream = [event for event in told if getattr(event, "stream_id", None) == 2 * number + 1]
        answers = [dict(event.headers) for event in of_stream if isinstance(event, h2.events.ResponseReceived)]
        assert answers == [{":status": "200", **head}]
        assert sum(len(event.data) for event in of_stream if isinstance(event, h2.events.DataReceived)) == sum(sizes)
        assert any(isinstance(event, h2.events.StreamEnded) for event in of_stream)
    assert not ours._streams


@QUIET
@given(exchanges())
def test_our_client_and_h2_as_a_server_understand_each_other(messages):
    theirs = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    theirs.initiate_connection()
    ours, heard = machine(Role.CLIENT), Collected()
    told: list[Any] = []

    def flow() -> None:
        while True:
            there = ours.data_to_send()
            events = theirs.receive_data(there) if there else []
            for event in events:
                if isinstance(event, h2.events.DataReceived):
                    theirs.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            told.extend(events)
            back = theirs.data_to_send()
            heard.take(ours.receive(back))
            if not there and not back:
                return

    for head, sizes, tail in messages:
        pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "a")]
        stream = ours.open_stream(encode_block([*pseudo, *head.items()]))
        flow()
        for size in sizes:
            send_body(ours, stream, bytes(size), flow)
        ours.send_data(stream, b"", end_stream=True)
        flow()
        theirs.send_headers(stream, [(":status", "200"), *head.items()])
        for size in sizes:
            while size:
                sendable_bytes = min(theirs.local_flow_control_window(stream), 16_384, size)
                theirs.send_data(stream, bytes(sendable_bytes))
                size -= sendable_bytes
                flow()
        theirs.send_headers(stream, list((tail or {"grpc-status": "0"}).items()), end_stream=True)
        flow()
        requests = [event for event in told if isinstance(event, h2.events.RequestReceived)]
        assert dict(requests[-1].headers) == {**dict(pseudo), **head}
        assert heard.headers[stream] == {":status": "200", **head}
        assert len(heard.body.get(stream, b"")) == sum(sizes)
        assert heard.trailers[stream] == (tail or {"grpc-status": "0"})
    assert not ours._streams


@pytest.mark.parametrize("code", [ErrorCode.CANCEL, ErrorCode.NO_ERROR])
def test_a_reset_of_either_side_is_heard_by_the_other(code):
    client, server = machine(Role.CLIENT), machine(Role.SERVER)
    block = encode_block([(":method", "POST"), (":scheme", "http"), (":path", "/x")])
    for resetter, other in ((client, server), (server, client)):
        stream = client.open_stream(block)
        server.receive(client.data_to_send())
        client.receive(server.data_to_send())
        resetter.reset(stream, code)
        assert other.receive(resetter.data_to_send())[-1:] == [StreamReset(stream, code)]
    assert not client._streams
    assert not server._streams
