"""The numbers of the worker library: how long it waits, and how much it keeps."""

from __future__ import annotations

import attrs


@attrs.frozen
class Parameters:
    """Times in seconds."""

    # Servers.

    #: The list of servers is asked for so often, and after each change, but never more often than every so long.
    refresh_seconds: float = 3.0
    refresh_min_seconds: float = 0.1
    #: A server may take so long for a call that says nothing of work.
    call_seconds: float = 5.0
    #: First and longest pause between attempts to connect to a server.
    backoff_min_seconds: float = 0.1
    backoff_max_seconds: float = 3.0
    servers_max: int = 500

    # Streams.

    #: When a stream broke whose connection did not, the next one is opened after so long.
    reopen_seconds: float = 1.0
    #: A server whose turn it is to have a slot may use it within this time.
    turn_seconds: float = 0.05
    #: A server may take so long for results before they are pushed elsewhere; looked at so often.
    stream_answer_seconds: float = 5.0
    check_seconds: float = 1.0
    #: A server may take so long to say goodbye, and then to end the stream.
    goodbye_seconds: float = 0.5
    #: A message is sent at least once in this share of the server's lease.
    heartbeat_share: float = 0.25
    #: Slots of all actions together: a server gives a stream credit for no more.
    slots_max: int = 10_000
    #: Messages with results, and such with extensions, that have no answer yet; the rest waits, and leaves together.
    result_messages_max: int = 16
    extension_messages_max: int = 4
    extensions_per_message: int = 1_000
    #: Attempts that one message says are held, or are not.
    held_per_message: int = 1_000

    # Polls.

    #: A poll waits so long at a server for work; at least so long where the pollers take turns.
    poll_wait_seconds: float = 10.0
    poll_wait_min_seconds: float = 0.05
    #: A poll that has left no slot to others waits no longer than this: a server may join meanwhile.
    last_slot_wait_seconds: float = 3.0
    #: How much longer than it was asked to wait a server may take to answer a poll.
    poll_answer_seconds: float = 10.0
    #: A server that answers with nothing sooner than this share of the time it was to wait can't hold polls.
    answered_early_share: float = 0.5
    #: When the worker stops, the polls under way may be answered for so long.
    last_answer_seconds: float = 0.25

    # Results.

    #: A server may take so long for a result before another one is asked: little at first, for one that has stopped
    #: answering would hold up results until their attempts time out; more each time, for all may be slow.
    push_seconds: float = 1.0
    push_max_seconds: float = 10.0
    #: First and longest pause when no server has taken a result.
    push_backoff_min_seconds: float = 0.05
    push_backoff_max_seconds: float = 2.0
    #: What one message brings at most; servers take messages of 10 MiB.
    results_per_call: int = 100
    bytes_per_call: int = 2 * 2**20
    #: Calls under way while more results wait.
    push_calls_max: int = 4
    #: Results of each action that wait to be taken before no more of it is begun; at least its slots.
    unpushed_min: int = 100


DEFAULTS = Parameters()
