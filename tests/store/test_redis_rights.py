"""Rights of the Redis user: a script is not rolled back, so a missing right must be found at the start."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from orchy.errors import StartupError
from orchy.store.redis import RedisSettings, TcpAddress, open_redis
from orchy.store.redis.checks import check_rights
from tests.store.conftest import acl_rules, make_user

LUA = files("orchy.store.redis") / "lua"


def test_the_rights_script_tries_each_command_of_the_scripts():
    called = set()
    for script in [*LUA.iterdir(), *(LUA / "includes").iterdir()]:
        if script.name.endswith(".lua"):
            called |= set(re.findall(r"redis\.call\('(\w+)'", script.read_text()))
            called |= set(re.findall(r"call_in_batches\('(\w+)'", script.read_text()))
    tried = set(re.findall(r"^  \{'(\w+)'", (LUA / "rights.lua").read_text(), re.MULTILINE))
    assert called <= tried


@pytest.mark.real
async def test_the_documented_user_has_all_rights(valkey_port):
    make_user(valkey_port, "good", acl_rules("test-*"))
    async with open_redis(_as("good", valkey_port)) as client:
        await check_rights(client, "test-rights", 64)


@pytest.mark.real
@pytest.mark.parametrize("name", ["set", "zadd", "unlink", "hmget", "lpop"])
async def test_a_missing_right_is_named_at_the_start(valkey_port, name):
    make_user(valkey_port, f"no-{name}", [*acl_rules("test-*"), f"-{name}"])
    async with open_redis(_as(f"no-{name}", valkey_port)) as client:
        with pytest.raises(StartupError, match=rf"may not run {name.upper()} .*docs/storage.md"):
            await check_rights(client, "test-rights", 64)


@pytest.mark.real
async def test_keys_of_another_namespace_are_refused(valkey_port):
    make_user(valkey_port, "elsewhere", acl_rules("test-*"))
    async with open_redis(_as("elsewhere", valkey_port)) as client:
        with pytest.raises(StartupError, match="production"):
            await check_rights(client, "production", 64)


def _as(user, port):
    return RedisSettings((TcpAddress("127.0.0.1", port),), username=user, password=user)
