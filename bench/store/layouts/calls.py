"""What single calls cost within a script: the parts that a commit is made of."""

from __future__ import annotations

import msgspec
import redis

from bench.harness.redis_servers import RedisServers

TIMES = 1_000
_ID = "'4be0f6c2-0000-4000-8000-12345678'..(1000 + i)"
_FLOW = f"'{{1}}f:'..{_ID}"
_LINE = '[1795707412463,1,[["C",1,1],["Q",2,1,"worker",3600000]],"DWN0Q8WL"]\n'
_PACKED = msgspec.msgpack.encode(
    [1, "DWN0Q8WL", "kT3f_9aZ", _LINE, 5, ["1:1:DWN0Q8WL:4be0f6c2-0000-4000-8000-123456789abc"]]
)

CALLS = {
    "nothing": "",
    "a key's name": f"local key = {_FLOW}",
    "STRLEN (version: length)": f"call('STRLEN', {_FLOW})",
    "GETRANGE (version: tag)": f"call('GETRANGE', {_FLOW}, -11, -4)",
    "HGET of a hash that is not there": "call('HGET', '{1}w', 'a')",
    "APPEND": f"call('APPEND', {_FLOW}, ARGV[1])",
    "ZADD, a new member": f"call('ZADD', '{{1}}t', 1795707412463 + i, {_ID})",
    "ZADD, a member that moves": "call('ZADD', '{1}t', 1795707412463 + i, 'a')",
    "ZADD LT that changes nothing": "call('ZADD', '{1}t', 'LT', 1795707412463 + i, 'a')",
    "RPUSH": "call('RPUSH', '{1}x', ARGV[1])",
    "unpacking a commit": "local commit = cmsgpack.unpack(ARGV[2])",
}


def costs(servers: RedisServers) -> dict[str, float]:
    """us of each call, without the loop around it. The file is written as well."""
    found: dict[str, float] = {}
    with redis.Redis(port=servers.ports[0]) as client:
        for name, call in CALLS.items():
            client.flushall()
            # What the calls find: flows with a line, one member.
            client.eval(_loop(f"call('APPEND', {_FLOW}, ARGV[1])"), 1, "{1}", _LINE, _PACKED)
            client.zadd("{1}t", {"a": 1.0})
            before = _cpu(client)
            client.eval(_loop(call), 1, "{1}", _LINE, _PACKED)
            found[name] = (_cpu(client) - before) / TIMES * 1e6
    nothing = found.pop("nothing")
    return {name: cost - nothing for name, cost in found.items()}


def _loop(call: str) -> str:
    return f"local call = redis.call for i = 1, {TIMES} do {call} end"


def _cpu(client: redis.Redis) -> float:
    cpu = client.info("cpu")
    used: float = cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"]
    return used
