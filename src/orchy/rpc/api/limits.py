"""Limits and timings of workers' streams."""

from __future__ import annotations

import attrs


@attrs.frozen
class SessionLimits:
    """How much one worker's stream may make the server keep."""

    #: Streams of a server at the same time.
    sessions_max: int = 20_000
    #: Actions that one stream has credit for.
    actions_max: int = 1_000
    #: Attempts that a stream has credit for, those included that the worker has not read yet.
    credit_max: int = 10_000
    #: Results, extensions, or attempts that are held or missing, in one message.
    items_max: int = 1_000
    #: Messages that have no answer yet; the next one waits.
    messages_at_once: int = 32
    #: A message to a worker takes no further attempt when it has so many bytes.
    message_bytes: int = 2**20
    #: While a worker has left more than this unread, nothing is handed out to it.
    unsent_bytes_max: int = 4 * 2**20
    #: Extensions of one message that are with the store at the same time.
    extensions_at_once: int = 50


@attrs.frozen
class SessionTiming:
    """How long a stream waits, in seconds."""

    #: For the commits that were handing out work when it ended.
    settle_seconds: float = 30.0
    #: For the worker to say whether it holds an attempt.
    answer_seconds: float = 2.0


# The defaults.
LIMITS = SessionLimits()
TIMING = SessionTiming()
