"""Whole tables over a stream: finds what gossip missed, heals a split, and tells a joiner who the members are.

    asker                               asked
    Sync(digest of my table)     ->
                                 <-     Same, or its Table
    my Table, unless I join      ->     (accepted only on a stream that began with a Sync)

Equal tables cost two small frames. A member that a table calls dead is only suspected here, so that it can object.
After a split each side thinks the other one dead; the first exchange makes the members of each side object, and the
second one, soon after, carries their objections over (as ringpop heals).
"""

from __future__ import annotations

import attrs

from orchy.swim.codec import Malformed, decode
from orchy.swim.core import NEVER, Core
from orchy.swim.envelope import Unopened, label_of
from orchy.swim.messages import Address, Finish, Message, Record, Refused, Respond, Same, State, Sync, Table
from orchy.swim.notifications import JoinRefused, JoinUnanswered
from orchy.swim.rumours import Rumours

#: How many exchanges this member may have under way; each ends by the driver's timeout.
EXCHANGES_MAX = 64
#: How many addresses of the registry wait to be tried.
CANDIDATES_MAX = 64
#: How many peers may still send their table; their streams last seconds, the oldest is forgotten.
AWAITED_TABLES_MAX = 128


@attrs.frozen
class _Exchange:
    """One that this member began. `heals`: how many more may follow without the usual pause."""

    address: Address
    joining: bool
    heals: int


class Synchroniser:
    """Exchanges of tables with one member at a time."""

    #: A split heals in two exchanges; at most this many follow one another without the usual pause.
    HEALS_MAX = 5

    def __init__(self, core: Core, rumours: Rumours, now: float) -> None:
        self._core = core
        self._rumours = rumours
        self._exchanges: dict[int, _Exchange] = {}
        parameters = core.parameters
        self._sync_at = now + core.choose.random() * parameters.sync_seconds(core.live)
        self._reconnect_at = now + core.choose.random() * parameters.reconnect_interval_seconds
        self._heal_at = NEVER
        self._heal: _Exchange | None = None
        self._candidates: dict[Address, None] = {}
        self._awaited_tables: dict[int, None] = {}  # the streams on which a peer's table may come
        # Joining; empty when there is nothing to join.
        self._seeds: tuple[Address, ...] = ()
        self._join_at = NEVER
        self._backoff = parameters.join_backoff_seconds
        #: When something is to be done.
        self.deadline = min(self._sync_at, self._reconnect_at)

    def tick(self, now: float) -> None:
        """Do what is due."""
        core, parameters = self._core, self._core.parameters
        if self._sync_at <= now:
            self._sync_at = now + parameters.sync_seconds(core.live) * (0.9 + 0.2 * core.choose.random())
            for peer in core.members.sample(1, lambda record: record.state is State.ALIVE):
                self._begin(peer.address)
        if self._reconnect_at <= now:
            self._reconnect_at = now + parameters.reconnect_interval_seconds * (0.9 + 0.2 * core.choose.random())
            core.members.forget(now - parameters.forget_seconds)
            self._reconnect()
        if self._heal_at <= now and self._heal is not None:
            self._heal_at = NEVER
            self._begin(self._heal.address, heals=self._heal.heals)
        if self._join_at <= now:
            self._try_to_join(now)
        self._update_deadline()

    # Joining.

    def join(self, seeds: tuple[Address, ...], now: float) -> None:
        """Try these until one answers: at once, then with exponential backoff."""
        self._seeds = seeds
        self._rumours.settled = not seeds
        self._join_at = now if seeds else NEVER
        self._update_deadline()

    def _try_to_join(self, now: float) -> None:
        core, parameters = self._core, self._core.parameters
        if not any(exchange.joining for exchange in self._exchanges.values()) and not self._rumours.rival:
            for seed in core.choose.sample(self._seeds, min(len(self._seeds), parameters.indirect_members)):
                self._begin(seed, joining=True)
        self._join_at = now + self._backoff * (0.5 + core.choose.random())
        self._backoff = min(self._backoff * 2, parameters.join_backoff_max_seconds)

    def _joined(self, address: Address, table: Table, now: float) -> None:
        """A seed has sent its table. If one of its members has this name, that one is asked first."""
        core = self._core
        settled = self._rumours.settled
        mine = next((record for record in table.records if record.name == core.name), None)
        if mine is not None and not settled and core.plausible(mine.name, mine.incarnation, now):
            if core.yields and mine.state.live and mine.address != core.me.address:
                if not self._rumours.rival:
                    self._rumours.check_rival(mine)
                return  # by the next attempt the name is free, or this machine has stopped
            self._rumours.outbid(mine.incarnation, now)  # of this node's past
        self._rumours.table(tuple(record for record in table.records if record.name != core.name), now)
        if not settled:
            self._rumours.settled = True
            self._join_at = NEVER
            self._update_deadline()
            core.believe(core.me, now)
            self._begin(address)  # so that the seed knows this member before gossip reaches it

    # Reconnecting.

    def offer(self, addresses: tuple[Address, ...], now: float) -> None:
        """Addresses that may belong to members of which nobody here knows.

        Some of those that are new to this member are tried at once; if it knows no live member, one in any case.
        """
        core = self._core
        live = {record.address for record in core.members if record.state.live}
        heard_of = {record.address for record in core.members}
        for address in addresses:
            if address not in live and len(self._candidates) < CANDIDATES_MAX:
                self._candidates[address] = None
        new = [address for address in self._candidates if address not in heard_of and address != core.me.address]
        busy = {exchange.address for exchange in self._exchanges.values()}
        for address in new[: core.parameters.indirect_members]:
            del self._candidates[address]
            if address not in busy:
                self._begin(address)
        if self._candidates and not new and core.live == 1:
            self._reconnect_at = now
            self._update_deadline()

    def _reconnect(self) -> None:
        core = self._core
        choices = [record.address for record in core.members.gone(State.DEAD)]
        choices += [address for address in self._candidates if address not in choices]
        self._candidates.clear()
        if choices:
            self._begin(core.choose.choice(choices))

    # The exchange.

    def _begin(self, address: Address, *, joining: bool = False, heals: int = HEALS_MAX) -> None:
        core = self._core
        if address == core.me.address or len(self._exchanges) >= EXCHANGES_MAX:
            return
        core.counts["syncs"] += 1
        stream = core.connect(address, Sync(core.members.digest, joining, core.name))
        self._exchanges[stream] = _Exchange(address, joining, heals)

    def sync_received(self, stream: int, message: Sync) -> None:
        """A peer begins an exchange."""
        core = self._core
        same = message.digest == core.members.digest and not message.joining
        answer: Message = Same() if same else self._table()
        more = not same and not message.joining
        if more:
            self._awaited_tables[stream] = None
            if len(self._awaited_tables) > AWAITED_TABLES_MAX:
                del self._awaited_tables[next(iter(self._awaited_tables))]
        core.outputs.append(Respond(stream, core.frame(answer), more))

    def table_received(self, stream: int, table: Table, now: float) -> None:
        """A table came; it is accepted only from a peer that has just sent a Sync."""
        if stream not in self._awaited_tables:
            self._core.counts["dropped: not for a stream"] += 1
            return
        del self._awaited_tables[stream]
        self._rumours.table(table.records, now)

    def answered(self, stream: int, messages: list[Message], now: float) -> None:
        """The peer's answer."""
        core = self._core
        exchange = self._exchanges.pop(stream, None)
        for message in messages:
            match message:
                case Table() if exchange is not None and exchange.joining:
                    self._joined(exchange.address, message, now)
                case Table(records) if exchange is not None:
                    contradicted = self._rumours.table(records, now)
                    core.outputs.append(Finish(stream, core.frame(self._table())))
                    if contradicted and exchange.heals > 0:
                        self._heal = attrs.evolve(exchange, heals=exchange.heals - 1)
                        self._heal_at = now + core.parameters.heal_seconds
                        self._update_deadline()
                case _:
                    pass

    def refused(self, stream: int, packet: bytes) -> None:
        """The peer's frame could not be opened, or says that ours could not."""
        core = self._core
        exchange = self._exchanges.pop(stream, None)
        if exchange is not None and exchange.joining and not self._rumours.settled:
            try:
                opened = Refused() in decode(core.envelope.open_foreign(packet))
            except (Unopened, Malformed):
                opened = False
            core.outputs.append(JoinRefused(exchange.address, label_of(packet), opened))

    def failed(self, stream: int, hung_up: bool) -> None:
        """There was no answer; a later attempt will try again."""
        exchange = self._exchanges.pop(stream, None)
        if exchange is not None:
            self._core.counts["syncs failed"] += 1
            if hung_up and exchange.joining and not self._rumours.settled:
                self._core.outputs.append(JoinUnanswered(exchange.address))

    def _update_deadline(self) -> None:
        self.deadline = min(self._sync_at, self._reconnect_at, self._heal_at, self._join_at)

    def _table(self) -> Table:
        records: list[Record] = [record for record in self._core.members if record.address[1]]
        return Table(tuple(records))
