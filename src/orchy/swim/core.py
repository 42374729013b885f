"""What the parts of the machine share: this member's identity, the table of members, and the outbox."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import attrs

from orchy.swim.awareness import Awareness
from orchy.swim.broadcast import Broadcasts
from orchy.swim.codec import SEQ_MAX, encode, join
from orchy.swim.envelope import Envelope
from orchy.swim.members import Members, Snapshot
from orchy.swim.messages import Address, Alive, Connect, Dead, Message, Output, Record, Send, State, Suspect
from orchy.swim.notifications import Implausible
from orchy.swim.parameters import (
    FRAME_BYTES_MAX,
    INCARNATION_AHEAD_MAX,
    INCARNATION_MAX,
    META_BYTES_MAX,
    NAME_BYTES_MAX,
    Parameters,
)

NEVER = float("inf")
#: Head of the array of messages in a packet.
_ARRAY_BYTES = 3


@attrs.frozen
class Introducer:
    """How this member answers processes that are no members, sealed with a label that is no secret.

    A process that can seal with `envelope` learns where the store is; one that can't, at most which cluster this is.
    """

    envelope: Envelope
    store: str


class Core:
    """State that all parts read, and the outbox that all parts fill."""

    def __init__(
        self,
        *,
        name: str,
        address: Address,
        meta: bytes,
        parameters: Parameters,
        envelope: Envelope,
        choose: random.Random,
        base: Snapshot,
        now: float = 0.0,
        epoch: float | None = None,
        vouched: Callable[[Record], bool] | None = None,
        yields: bool = True,
        introducer: Introducer | None = None,
    ) -> None:
        if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
            raise ValueError(f"a member's name has 1 to {NAME_BYTES_MAX} bytes")
        self.name = name
        self.parameters = parameters
        self.envelope = envelope
        self.choose = choose
        self.members = Members(name, base, choose)
        self.broadcasts = Broadcasts()
        self.awareness = Awareness(parameters.awareness_max if parameters.lifeguard else 0)
        #: Dropped messages by reason, and actions.
        self.counts: Counter[str] = Counter()
        self.outputs: list[Output] = []
        #: The source of the packet that is being handled.
        self.sender: Address | None = None
        self.vouched = vouched
        self.yields = yields
        self.introducer = introducer
        self._epoch = epoch
        first = 1 if epoch is None else max(1, min(int(epoch + now), INCARNATION_MAX))
        self.me = self.members.get(name) or Record(name, first, State.ALIVE, address, check_meta(meta))
        self._room = parameters.packet_bytes - envelope.overhead_bytes - _ARRAY_BYTES
        self._streams = 0
        self._seq = choose.randrange(SEQ_MAX)

    @property
    def live(self) -> int:
        """Live members, this one among them."""
        return max(1, self.members.live)

    def plausible(self, name: str, incarnation: int, now: float) -> bool:
        """Whether a member can have such an incarnation by now. If not, that is counted and output as an event."""
        if self._epoch is None or incarnation <= self._epoch + now + INCARNATION_AHEAD_MAX:
            return True
        self.counts["dropped: implausible"] += 1
        self.outputs.append(Implausible(name, incarnation))
        return False

    def send(self, address: Address, *messages: bytes) -> None:
        """Send a packet with these messages, and as many updates as fit beside them."""
        broadcasts = self.broadcasts
        if broadcasts:
            room = self._room - sum(map(len, messages))
            messages = (*messages, *broadcasts.take(room, self.parameters.retransmits(self.live)))
        self.outputs.append(Send(address, self.envelope.seal(join(messages))))

    def next_seq(self) -> int:
        """The sequence number of this member's next ping."""
        self._seq = (self._seq + 1) & SEQ_MAX
        return self._seq

    def connect(self, address: Address, *messages: Message) -> int:
        """Open a stream with a first frame; returns its number."""
        self._streams += 1
        self.outputs.append(Connect(self._streams, address, self.frame(*messages)))
        return self._streams

    def frame(self, *messages: Message) -> bytes:
        """Messages sealed as one frame of a stream."""
        frame = self.envelope.seal(join(map(encode, messages)))
        assert len(frame) <= FRAME_BYTES_MAX, "the table of members has a limit"
        return frame

    def believe(self, record: Record, now: float) -> None:
        """Put a record into the table, and queue it for gossip."""
        if record.name == self.name:
            self.me = record
        self.members.put(record, now)
        self.broadcasts.put(record.name, encode(self.news(record)))

    def news(self, record: Record, accuser: str | None = None) -> Message:
        """The message that spreads what is believed of a member."""
        match record.state:
            case State.ALIVE:
                return Alive(record)
            case State.SUSPECT:
                return Suspect(record.name, record.incarnation, accuser or self.name)
            case State.DEAD:
                return Dead(record.name, record.incarnation, accuser or self.name)
            case State.LEFT:
                return Dead(record.name, record.incarnation, record.name)

    def renew(self, incarnation: int, now: float, meta: bytes | None = None) -> None:
        """Announce that this member lives, with a new incarnation."""
        self.believe(
            attrs.evolve(
                self.me,
                incarnation=incarnation,
                state=State.ALIVE,
                meta=self.me.meta if meta is None else check_meta(meta),
            ),
            now,
        )


def check_meta(meta: bytes) -> bytes:
    """Raises ValueError."""
    if len(meta) > META_BYTES_MAX:
        raise ValueError(f"a member's metadata have at most {META_BYTES_MAX} bytes")
    return meta
