"""Errors that only a store on Redis can have: keys left behind, partial changes, mixed namespaces, too many calls."""

from __future__ import annotations

import pytest

from orchy.errors import ConfigurationError, StoreRefused, VersionConflict
from orchy.store.definitions import NamespaceSettings
from orchy.store.flows import Listing
from orchy.store.limits import REMEMBERED_MS
from orchy.store.queues import QueueEntry
from orchy.store.redis import RedisStore, open_redis, scripts
from orchy.store.timers import TimerKey

HOUR_MS = 3_600_000
pytestmark = [pytest.mark.real, pytest.mark.parametrize("kind", ["redis", "cluster"])]


@pytest.fixture
async def client(kind, settings_of):
    """A client of the server or the cluster."""
    async with open_redis(settings_of(kind)) as redis:
        yield redis


@pytest.fixture
def drive(client, namespace, drive_on):
    """A driver of a store in the test's namespace."""
    return drive_on(RedisStore(client, namespace))


async def contents_of(client, namespace):
    """The serialised value of each key of a namespace."""
    contents = {}
    for pattern in (f"{{{namespace}}}:*", f"{{{namespace}:*"):
        for keys in (await client.on_every_master("KEYS", pattern)).values():
            for key in keys:
                contents[key.decode()] = await client.execute("DUMP", key, key=key, safe=True)
    return contents


async def fill(drive, timer):
    """Store one of each kind of thing in partitions 0 and 1."""
    store = drive.store
    await drive.own(0, 1)
    for partition in (0, 1):
        names = [f"{state}-{partition}" for state in ("queued", "handed-out", "parked", "timed", "ended")]
        queued, handed_out, parked, timed, ended = names
        await drive.start_queued(handed_out, b"1", partition=partition, history=[b"[]"])
        await drive.start_queued(parked, b"2", partition=partition, fields={"p": b"1"}, history=[b"[]"])
        assert await drive.claim(partitions=[partition]) == [b"1"]
        await drive.start_queued(queued, b"3", partition=partition, history=[b"[]"])
        await drive.start(timed, partition=partition, set_timers=[timer(f"w:1:1:{timed}", HOUR_MS)])
        await drive.start(ended, partition=partition)
        await drive.end(ended, partition=partition, retain_ms=1)
    await store.settings(NamespaceSettings(2, 1))
    await store.save_workflow("orders", b"text")
    await store.save_action("pay", b"text")


async def test_a_removed_flow_leaves_only_its_id_for_a_while(client, namespace, drive, timer, wait_for):
    leases = await drive.own(0)
    await drive.start_queued("ended", b"1", fields={"p": b"1"}, history=[b"[]"])
    await drive.start_queued("removed", b"2", fields={"p": b"1"}, history=[b"[]"])
    assert await drive.claim() == []
    await drive.start("cancelled", workflow="bills", set_timers=[timer("w:1:1:cancelled", HOUR_MS)])
    cancel = {"listed_after": Listing.CANCELLED, "cancel_timers": [TimerKey.parse("w:1:1:cancelled")]}
    await drive.move("cancelled", workflow="bills", retain_ms=1, **cancel)
    await drive.end("ended", retain_ms=1)
    await drive.end("removed", retain_ms=0)
    removed = 0
    while removed < 2:
        removed += await wait_for(lambda: drive.store.expire(leases, 10))
    prefix = f"{{{namespace}:0}}:"
    left = {f"{prefix}g:{flow_id}" for flow_id in ("ended", "removed", "cancelled")}
    assert set(await contents_of(client, namespace)) == {f"{prefix}own", *left}
    for key in map(str.encode, left):
        assert 0 < await client.execute("PTTL", key, key=key, safe=True) <= REMEMBERED_MS
        with pytest.raises(VersionConflict):
            await drive.start(key.decode().rpartition(":")[2])
        await client.execute("PEXPIRE", key, 0, key=key, safe=True)
        assert (await drive.start(key.decode().rpartition(":")[2])).version == 1


async def test_an_early_removal_leaves_only_the_id(client, namespace, drive):
    await drive.start()
    await drive.end(retain_ms=HOUR_MS)
    await drive.move(version=2, listed_before=Listing.COMPLETED, listed_after=Listing.COMPLETED, retain_ms=0)
    assert list(await contents_of(client, namespace)) == [f"{{{namespace}:0}}:g:flow"]


async def test_namespaces_share_nothing(client, namespace, drive, drive_on, timer, wait_for):
    """Not even those with a common prefix, or whose names look like a partition of another."""
    await fill(drive, timer)
    before = await contents_of(client, namespace)
    for other in (namespace + "0", namespace[:-1], namespace + ":0", namespace + "."):
        theirs = drive_on(RedisStore(client, other))
        assert await theirs.store.settings(NamespaceSettings(8, 1)) == NamespaceSettings(8, 1)
        assert await theirs.store.workflows() == []
        assert await theirs.store.actions() == {}
        assert await theirs.store.load(0, "queued-0") is None
        assert await theirs.store.list_flows(0, list(Listing), None, 10, None) == []
        assert await theirs.claim(partitions=[0, 1]) == []
        leases = await theirs.own(0, 1)
        assert [list(scan.ready) for scan in await theirs.store.scan(leases, 10, 1)] == [[], []]
        assert await theirs.store.expire(leases, 10) == 0
        await theirs.start("queued-0")
        await theirs.end("queued-0", retain_ms=1)
        assert await wait_for(lambda store=theirs.store, held=leases: store.expire(held, 10)) == 1
    after = {key: dump for key, dump in (await contents_of(client, namespace)).items() if key in before}
    assert after == before


@pytest.mark.parametrize("name", ["", "a{b", "a}b", "a b", "a\nb", "a*"])
async def test_a_namespace_that_would_break_the_keys_is_refused(client, name):
    with pytest.raises(ConfigurationError, match="namespace"):
        RedisStore(client, name)


GOOD = ["queued-0", "orders", 1, "active", "active", "", 0, 1, 1, 1, 2, 1, 1, 0]
GOOD += ["m", "x", "r:1", "[]", "", 0, "pay", "queued-0:1:1:1:pay\nx"]
GOOD += ['["H",1,1,"w"]', 0, 60_000, ":1:1:queued-0", 1, "d:1:1:queued-0", "w:1:1:queued-0"]
NOT_NUMBERS = ["", "abc", "-1", "1.5", "nan", "inf", "1e400", " ", "1e17"]


async def test_bad_arguments_of_a_commit_change_nothing(client, namespace, drive, timer):
    """Each number is replaced by each bad value. The last line shows that the other arguments are good."""
    await fill(drive, timer)
    before = await contents_of(client, namespace)
    keys = [f"{{{namespace}:0}}:".encode()]
    numbers = [2, 5, *range(7, 14), 23, 24, 26]
    assert all(isinstance(GOOD[place], int) or GOOD[place] == "" for place in numbers)
    bad = [[*GOOD[:place], value, *GOOD[place + 1 :]] for place in numbers for value in NOT_NUMBERS]
    bad = [args for args in bad if args != GOOD]  # an empty retention is good
    bad += [GOOD[:count] for count in range(len(GOOD))] + [[*GOOD, "more"]]
    for args in bad:
        with pytest.raises(StoreRefused):
            await client.script(scripts.COMMIT, keys, args, safe=False)
        assert await contents_of(client, namespace) == before, args
    assert (await client.script(scripts.COMMIT, keys, GOOD, safe=False))[0] == 2


@pytest.mark.parametrize(
    ("script", "good", "numbers"),
    [
        (scripts.CLAIM, ["pay", 10, '"w"', 200, 1000, 0], [1, 3, 4, 5]),
        (scripts.RENEW_ATTEMPTS, [1000, "t:1:1:queued-0"], [0]),
        (scripts.SCAN, [10, 1000, 1], [0, 1]),
        (scripts.EXPIRE, [10, 1], [0]),
        (scripts.ACQUIRE, ["node-1", 1000], [1]),
        (scripts.RENEW, ["node-1", 1000, 1], [1]),
        (scripts.LIST, [10, "", "", "", "active"], [0]),
    ],
    ids=["claim", "renew_attempts", "scan", "expire", "acquire", "renew", "list"],
)
async def test_bad_arguments_of_a_script_change_nothing(client, namespace, drive, timer, script, good, numbers):
    await fill(drive, timer)
    before = await contents_of(client, namespace)
    for place in numbers:
        for value in NOT_NUMBERS:
            args = [*good[:place], value, *good[place + 1 :]]
            with pytest.raises(StoreRefused):
                await client.script(script, [f"{{{namespace}:0}}:".encode()], args, safe=False)
            assert await contents_of(client, namespace) == before, args
    await client.script(script, [f"{{{namespace}:0}}:".encode()], good, safe=False)


async def test_a_malformed_queue_entry_is_dropped_and_does_no_harm(client, namespace, drive):
    """Something other than Orchy may have written it."""
    queue = f"{{{namespace}:0}}:q:pay".encode()
    await client.execute("RPUSH", queue, "", "no head", "a:b:c:d:e\nbody", "::::\n", key=queue, safe=False)
    await drive.start_queued("flow", b"work")
    claimed = await drive.store.claim("pay", [0], 10, "w")
    assert (list(claimed.bodies), list(claimed.emptied)) == ([b"work"], [0])


async def test_flows_of_one_millisecond_are_paged_by_the_bytes_of_their_ids(client, namespace, drive):
    names = sorted(["a", "B", "b", "Z", "aa", "A", "é", "1", "_", "a-b", "a.b"], key=str.encode)
    for number, name in enumerate(names):
        workflow = "orders" if number % 2 else "bills"
        await drive.start(name, workflow=workflow)
        index = f"{{{namespace}:0}}:i:active:{workflow}".encode()
        await client.execute("ZADD", index, 1_000, name, key=index, safe=False)
    found, before = [], None
    while page := await drive.store.list_flows(0, list(Listing), None, 2, before):
        found += [flow.flow_id for flow in page]
        before = (1_000, found[-1])
        assert len(found) <= len(names)
    assert found == names[::-1]


async def test_partitions_of_an_idle_node_cost_one_call_where_one_is_enough(client, kind, drive):
    leases = await drive.own(*range(64))
    store = drive.store
    calls = 64 if kind == "cluster" else 1
    for call in (
        lambda: store.scan(leases, 25, HOUR_MS),
        lambda: store.renew(leases, "node-1", HOUR_MS),
        lambda: store.expire(leases, 20),
        lambda: store.owners(range(64)),
        lambda: store.acquire(range(64), "node-1", HOUR_MS),
        lambda: store.claim("pay", range(64), 10, "w"),
        lambda: store.release(leases, "node-1"),
    ):
        await call()  # loads the script
        before = client.commands_total
        await call()
        assert client.commands_total - before == calls


async def test_a_commit_is_one_call_whatever_it_does(client, drive, timer):
    await drive.start_queued("first", b"x")
    before = client.commands_total
    await drive.start_queued("flow", b"x", history=[b"[]"], set_timers=[timer("d:1:1:flow")])
    await drive.end("flow", enqueue=[QueueEntry("pay", 1, 1, 1, b"x")], retain_ms=HOUR_MS, unpark=True)
    assert client.commands_total - before == 2
