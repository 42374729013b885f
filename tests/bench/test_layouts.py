"""The spikes of layouts keep what the store promises: figures of one that does not would say nothing."""

from __future__ import annotations

import itertools

import pytest
import redis
import trio
from msgspec.structs import replace

from bench.harness.commits import graph_of, new_flow, results, take
from bench.harness.redis_servers import run_redis_cluster
from bench.harness.work import chain, fan
from bench.store.layouts import moving, records, work
from bench.store.layouts.drivers import Spike
from bench.store.layouts.store import Cached, Layout, Refused, script
from orchy.flow.events import EventReceived, Pause, Resume, Started, TimerFired, TimerKind
from orchy.flow.execution import Phase
from orchy.store.redis import RedisSettings, TcpAddress, open_redis

NAMESPACES = itertools.count()
FORMS = ["log", "hash"]


#: Steps that no worker makes.
WAITS = {
    "name": "waits",
    "rootAction": 1,
    "actions": [
        {"id": 1, "type": "user", "name": "step", "next": {"default": [2, 3]}},
        {"id": 2, "type": "system", "name": "delay", "delaySeconds": 1, "next": {"default": [4]}},
        {"id": 3, "type": "system", "name": "wait", "event": "paid", "timeoutSeconds": 9},
        {"id": 4, "type": "user", "name": "step"},
    ],
}


# The fold


def wander(definition, pause=True):
    """The commits of a flow that takes what comes: results, timers, events, and a pause."""
    graph = graph_of(definition)
    flow, commits, events = new_flow(graph, "flow"), [], [Started()]
    for _ in range(50):
        flow, commit = take(graph, flow, events, len(commits), 0)
        commits.append(commit)
        if flow.state.over:
            return commits
        events = results(flow)
        for run_id, running in flow.running.items():
            if running.phase is Phase.DELAY:
                events.append(TimerFired(TimerKind.DELAY, run_id, running.attempt))
            elif running.phase is Phase.WAIT:
                events.append(EventReceived(running.event, {"paid": True}, "event-1"))
        if pause and len(commits) == 1:
            events = [Pause()]
        elif pause and len(commits) == 3:
            events = [Resume(), *events]
    raise AssertionError(f"the flow does not end: {flow}")


def folded_from(commits):
    folded, log = records.Folded(), b""
    for number, commit in enumerate(commits):
        facts = records.encode_facts(records.facts_of(commit, folded))
        log += f'[{1000 + number},1,[{facts}],"{number:08}"]\n'.encode()
    return folded, log


@pytest.mark.parametrize("definition", [chain("three", 3), fan("fan", 7), WAITS], ids=lambda one: one["name"])
@pytest.mark.parametrize("pause", [False, True])
def test_a_log_folds_to_the_fields_that_commits_write(definition, pause):
    commits = wander(definition, pause)
    fields = {}
    for number, commit in enumerate(commits, 1):
        fields |= commit.fields
        for name in commit.removed_fields:
            fields.pop(name, None)
        taken_along, log = folded_from(commits[:number])
        assert taken_along.fields() == fields
        assert records.fold(log).fields() == fields


def test_a_record_of_a_newer_version_is_refused():
    with pytest.raises(records.UnknownFact, match="version 2"):
        records.fold(b'[1,2,[["S","three",1,{}]],"aaaaaaaa"]\n')
    with pytest.raises(records.UnknownFact, match="@"):
        records.fold(b'[1,1,[["@",1]],"aaaaaaaa"]\n')


def test_what_a_line_says_beyond_its_tag_is_passed_over():
    assert records.fold(b'[1,1,[["S","three",1,{}]],"aaaaaaaa",{"new":1}]\n').workflow == "three"


# On a real server


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.fixture
async def client(valkey_port):
    async with open_redis(RedisSettings((TcpAddress("127.0.0.1", valkey_port),))) as one:
        yield one


def layout_on(client, form="log", **settings):
    return Layout(client, f"layouts-{next(NAMESPACES)}", form, **settings)


@pytest.fixture
async def layout(client, form):
    one = layout_on(client, form)
    await one.own([0])
    return one


def flows(count=1, *, make=work.straight, **settings):
    """Flows in partition 0."""
    settings = {"queued": True, **settings}
    return [[replace(commit, partition=0) for commit in one] for one in make(work.Flows(count, **settings))]


async def run(layout, commits):
    for commit in commits:
        assert await layout.commit_all([commit]) == [None]


async def raw(layout, flow_id):
    key = layout.key(0, f"f:{flow_id}")
    return await layout.redis.execute("GET", key, key=key, safe=True)


async def put(layout, flow_id, value):
    key = layout.key(0, f"f:{flow_id}")
    await layout.redis.execute("SET", key, value, key=key, safe=True)


async def members(layout, name):
    key = layout.key(0, name)
    return await layout.redis.execute("ZRANGE", key, 0, -1, key=key, safe=True)


def other_node(layout):
    """A node that has loaded what there is."""
    return Layout(layout.redis, layout.namespace, layout.form, epochs=layout.epochs)


@pytest.mark.real
async def test_of_two_commits_on_one_version_one_is_made(layout):
    (commits,) = flows()
    await run(layout, commits[:1])
    other = other_node(layout)
    cached = layout.cache[commits[0].flow_id]
    other.cache[commits[0].flow_id] = type(cached)(cached.incarnation, cached.tag, cached.created_ms)
    await run(other, commits[1:2])
    (refused,) = await layout.commit_all(commits[1:2])
    assert refused == Refused(other.cache[commits[0].flow_id].tag)
    assert commits[0].flow_id not in layout.cache


@pytest.mark.real
async def test_each_commit_of_a_call_is_decided_for_itself(layout):
    good, bad = flows(2)
    await run(layout, [good[0], bad[0]])
    layout.cache[bad[0].flow_id].tag = "another1"
    refused, made = await layout.commit_all([bad[1], good[1]])
    assert isinstance(refused, Refused)
    assert made is None


@pytest.mark.real
async def test_a_commit_on_a_time_line_that_is_gone_is_refused(client):
    layout = layout_on(client)
    (commits,) = flows()
    flow_id = commits[0].flow_id
    await run(layout, commits[:1])
    rolled_back_to = await raw(layout, flow_id)
    other = other_node(layout)
    await other.load(0, flow_id)
    await run(layout, commits[1:2])
    was = await raw(layout, flow_id)
    await put(layout, flow_id, rolled_back_to)  # the store has lost the last commit
    (refused,) = await layout.commit_all(commits[2:3])
    assert isinstance(refused, Refused)
    await run(other, commits[1:2])  # another node goes on from there: the same length, but another time-line
    now = await raw(layout, flow_id)
    assert len(now) == len(was)
    assert now != was
    layout.cache[flow_id] = records_cache(was)
    (refused,) = await layout.commit_all(commits[2:3])
    assert isinstance(refused, Refused)
    await layout.load(0, flow_id)
    await run(layout, commits[2:])


def records_cache(log):
    folded = records.fold(log)
    return Cached("", folded.tag, folded.created_ms, folded=folded)


@pytest.mark.real
async def test_a_commit_that_is_sent_again_is_made_once(layout):
    (commits,) = flows()
    keys, args = layout.arguments(commits[:1])
    for _ in range(2):
        _, _, refused = await layout.redis.script(script("commit", layout.form), keys, args, safe=True)
        assert refused == []
    assert len(await layout.claim("step", [0], 10, "worker")) == 1


@pytest.mark.real
async def test_an_id_is_started_once(layout):
    (commits,) = flows()
    await run(layout, commits[:1])
    (refused,) = await layout.commit_all(commits[:1])
    assert isinstance(refused, Refused)


@pytest.mark.real
async def test_each_attempt_is_handed_out_once(layout):
    many = flows(50)
    await layout.commit_all([commits[0] for commits in many])
    key = layout.key(0, "q:step")
    entries = await layout.redis.execute("LRANGE", key, 0, -1, key=key, safe=True)
    for push, part in (("LPUSH", entries[:3]), ("RPUSH", entries[:20])):  # entries that are there twice
        await layout.redis.execute(push, key, *part, key=key, safe=True)
    taken = []

    async def claim():
        while got := await layout.claim("step", [0], 7, "worker"):
            taken.extend(got)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(claim)
    assert len(taken) == len({one.attempt for one in taken}) == 50
    assert sorted(flow.decode() for flow in await members(layout, "t")) == sorted(one[0].flow_id for one in many)


@pytest.mark.real
async def test_an_entry_of_an_attempt_that_is_over_is_dropped(layout):
    (commits,) = flows()
    await run(layout, commits)
    assert await layout.claim("step", [0], 10, "worker") == []


@pytest.mark.real
async def test_an_entry_of_a_removed_flow_does_not_count_for_a_later_one_of_its_id(layout):
    (commits,) = flows()
    await run(layout, commits[:1])
    key = layout.key(0, f"f:{commits[0].flow_id}")
    await layout.redis.execute("DEL", key, key=key, safe=True)
    work_key = layout.key(0, "w")
    await layout.redis.execute("DEL", work_key, key=work_key, safe=True)
    await run(layout, commits[:1])
    (taken,) = await layout.claim("step", [0], 10, "worker")
    assert taken.attempt == f"1:1:{layout.cache[commits[0].flow_id].incarnation}:{commits[0].flow_id}"


@pytest.mark.real
@pytest.mark.parametrize("meets_it", [False, True])
async def test_a_paused_flow_hands_out_nothing_until_it_is_resumed(layout, meets_it):
    (commits,) = flows(make=work.paused)
    await run(layout, commits[:2])
    for _ in range(2 if meets_it else 0):
        assert await layout.claim("step", [0], 10, "worker") == []
    await run(layout, commits[2:3])
    (taken,) = await layout.claim("step", [0], 10, "worker")
    assert taken.attempt.startswith("1:1:")
    assert await layout.claim("step", [0], 10, "worker") == []


@pytest.mark.real
@pytest.mark.parametrize("meets_it", [False, True])
async def test_nothing_is_left_of_the_work_of_a_flow_that_is_cancelled_in_a_pause(layout, meets_it):
    (commits,) = flows(make=work.cancelled_in_a_pause)
    await run(layout, commits[:2])
    if meets_it:
        assert await layout.claim("step", [0], 10, "worker") == []
    await run(layout, commits[2:])
    assert await layout.claim("step", [0], 10, "worker") == []
    key = layout.key(0, "w")
    assert not await layout.redis.execute("EXISTS", key, key=key, safe=True)


@pytest.mark.real
async def test_what_is_given_back_is_handed_out_again_and_told(client):
    layout = layout_on(client)
    first, second = flows(2)
    await layout.commit_all([first[0], second[0]])
    taken = await layout.claim("step", [0], 10, "worker-1")
    assert await layout.give_back("step", taken) == 2
    assert await layout.give_back("step", taken) == 0
    again = await layout.claim("step", [0], 10, "worker-2")
    assert [one.body for one in again] == [one.body for one in taken]
    assert await layout.give_back("step", taken) == 0  # another worker has it now
    await run(layout, first[1:2])
    _, line = records._decode_lines(await raw(layout, first[0].flow_id))
    assert [fact[0] for fact in line.facts] == ["H", "B", "H", "C", "Q"]
    assert [fact[4] for fact in line.facts if fact[0] == "H"] == ["worker-1", "worker-2"]


@pytest.mark.real
async def test_an_attempt_given_back_during_a_pause_waits_for_its_end(layout):
    (commits,) = flows(make=work.paused)
    await run(layout, commits[:1])
    taken = await layout.claim("step", [0], 10, "worker")
    await run(layout, commits[1:2])
    assert await layout.give_back("step", taken) == 1
    assert await layout.claim("step", [0], 10, "worker") == []
    await run(layout, commits[2:3])
    assert len(await layout.claim("step", [0], 10, "worker")) == 1


@pytest.mark.real
async def test_a_timeout_does_not_count_for_an_attempt_that_has_got_more_time(layout):
    (commits,) = flows(make=work.timed_out, queued=False)
    flow_id = commits[0].flow_id
    await run(layout, commits[:1])
    await trio.sleep(0.01)
    ((_, _, due),) = await layout.scan([0])
    assert due == [flow_id.encode()]
    assert (await layout.scan([0]))[0][2] == []
    flow = layout.cache[flow_id]
    attempt = f"1:1:{flow.incarnation}:{flow_id}"
    keys = [layout.key(0, name) for name in ("own", f"f:{flow_id}", "w")]
    hold = script("hold", layout.form)
    assert await layout.redis.script(hold, keys, ["another1", attempt, "", "H"], safe=True) == 0
    assert await layout.redis.script(hold, keys, [flow.tag, attempt, "", 'H["X",1,1,99],'], safe=True) == 1
    assert await layout.commit_all(commits[1:]) == [Refused("moved")]


@pytest.mark.real
async def test_a_timer_moves_back_only_if_nothing_has_changed(layout):
    (commits,) = flows()
    flow_id = commits[0].flow_id
    await run(layout, commits[:1])
    (taken,) = await layout.claim("step", [0], 10, "worker")
    tag = layout.cache[flow_id].tag
    keys = [layout.key(0, name) for name in ("own", f"f:{flow_id}", "w", "t")]
    rearm = script("rearm", layout.form)
    assert await layout.redis.script(rearm, keys, [tag, 9e15, flow_id, taken.attempt, "q"], safe=True) == 0
    assert await layout.redis.script(rearm, keys, [tag, 9e15, flow_id, taken.attempt, taken.says], safe=True) == 1


@pytest.mark.real
async def test_a_scan_of_a_lost_lease_takes_nothing(layout):
    (commits,) = flows(make=work.timed_out, queued=False)
    await run(layout, commits[:1])
    other = other_node(layout)
    other.epochs = dict(layout.epochs)
    await layout.own([0])
    await trio.sleep(0.01)
    assert await other.scan([0]) == [[]]
    assert await other.expire(0) == 0
    assert len((await layout.scan([0]))[0][2]) == 1


@pytest.mark.real
async def test_nothing_is_left_of_a_removed_flow_but_its_id(layout):
    many = flows(30, retain_ms=1)
    for commits in many:
        await run(layout, commits)
    await trio.sleep(0.01)
    assert [await layout.expire(0, limit=20) for _ in range(3)] == [20, 10, 0]
    keys = await layout.redis.execute("KEYS", f"*{layout.namespace}:0}}:*", safe=True)
    left = {key.partition(b"}:")[2].partition(b":")[0] for key in keys}
    assert left <= {b"f", b"own", b"names", b"q", b"ready"}  # entries of attempts that are over: claims drop them
    assert isinstance((await layout.commit_all(many[0][:1]))[0], Refused)


@pytest.mark.real
async def test_a_flow_that_was_taken_up_again_is_not_removed(client):
    layout = layout_on(client)
    await layout.own([0])
    (commits,) = flows(retain_ms=1)
    await run(layout, commits)
    flow_id = commits[0].flow_id
    await run(layout, [replace(commits[1], enqueue=(), cancel_timers=())])  # what a retry of the flow would be
    await trio.sleep(0.01)
    assert await layout.expire(0) == 0
    assert await raw(layout, flow_id) != b"-"


@pytest.mark.real
async def test_blocks_fold_to_what_the_whole_log_does(client):
    layout = layout_on(client, block_every=10)
    (commits,) = flows(queued=False, length=75)
    await run(layout, commits)
    flow_id = commits[0].flow_id
    key = layout.key(0, f"s:{flow_id}")
    assert (await layout.redis.execute("GET", key, key=key, safe=True)).count(b"\n") == 7
    loaded = await layout.load(0, flow_id)
    whole = records.fold(await raw(layout, flow_id))
    assert loaded.fields() == whole.fields()
    assert (loaded.tag, loaded.created_ms, loaded.workers) == (whole.tag, whole.created_ms, whole.workers)
    assert len(loaded.finished) == 75


@pytest.mark.real
async def test_scripts_touch_only_the_keys_that_they_declare(client, valkey_port, form):
    """A user who may use just the keys of a call makes each one."""
    layout = layout_on(client, form, block_every=1)
    await layout.own([0])
    made, paused, timed = flows(retain_ms=1)[0], flows(make=work.paused)[0], flows(make=work.timed_out, queued=False)[0]
    with redis.Redis(port=valkey_port) as admin, redis.Redis(port=valkey_port) as limited:
        seen = set()

        async def as_limited(script_, keys, args, *, safe):
            patterns = [f"~{key.decode()}" for key in keys]
            admin.execute_command("ACL SETUSER", "limited", "reset", "on", ">limited", "+@all", *patterns)
            limited.execute_command("AUTH", "limited", "limited")
            seen.add(script_.name.partition(" ")[0])
            return limited.execute_command("EVAL", script_.source, len(keys), *keys, *args)

        client.script = as_limited
        if form == "hash":
            layout.block_every = 0
        for commits in (made[:1], paused[:2], timed[:1]):
            await run(layout, commits)
        await layout.claim("step", [0], 10, "worker")
        await run(layout, paused[2:3])
        await layout.give_back("step", await layout.claim("step", [0], 10, "worker"))
        await run(layout, made[1:])
        await trio.sleep(0.01)
        await layout.scan([0])
        await layout.expire(0)
        if form == "log":
            await layout.load(0, paused[0].flow_id)
        del client.script
    assert seen >= {"commit", "claim", "give_back", "scan", "over", "remove"}


@pytest.mark.real
def test_a_slot_that_moves_strands_no_flow():
    with run_redis_cluster("no", 3) as servers:
        assert moving.measure(servers, 300, spike=True, at_once=False).stranded == 0


@pytest.mark.real
async def test_all_of_it_works_on_a_cluster(cluster_ports, form):
    addresses = tuple(TcpAddress("127.0.0.1", port) for port in cluster_ports)
    async with open_redis(RedisSettings(addresses)) as client:
        layout = layout_on(client, form)
        await layout.own(work.ALL_PARTITIONS)
        driven = Spike(layout)
        await work.with_pauses(driven, work.paused(work.Flows(40, queued=True)))
        await work.with_timeouts(driven, work.timed_out(work.Flows(40, queued=False)))
