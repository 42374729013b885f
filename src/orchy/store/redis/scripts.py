"""The Lua scripts, read once. In them `--- @include "name"` is replaced by `lua/includes/name.lua`, and `@NAME@` by the
number of that name in `store.limits`.
"""

from __future__ import annotations

import re
from importlib.resources import files

from orchy.store import limits
from orchy.store.redis.client import Script

_LUA = files("orchy.store.redis") / "lua"
_INCLUDE = re.compile(r'^--- @include "(\w+)"\n', re.MULTILINE)
_CONSTANT = re.compile(r"@([A-Z_]+)@")


def load(name: str) -> Script:
    """The script `lua/<name>.lua` with what it includes."""
    source = (_LUA / f"{name}.lua").read_text("utf-8")
    whole = _INCLUDE.sub(lambda match: (_LUA / "includes" / f"{match[1]}.lua").read_text("utf-8"), source)
    return Script(name, _CONSTANT.sub(lambda match: str(getattr(limits, match[1])), whole))


COMMIT = load("commit")
CLAIM = load("claim")
GIVE_BACK = load("give_back")
EXTEND = load("extend")
RENEW_ATTEMPTS = load("renew_attempts")
LAST_HAND_OUT = load("last_hand_out")
CANCEL_TIMERS = load("cancel_timers")
SCAN = load("scan")
ACQUIRE = load("acquire")
RENEW = load("renew")
RELEASE = load("release")
OWNERS = load("owners")
EXPIRE = load("expire")
LIST = load("list")
QUARANTINE = load("quarantine")
RELEASE_FLOW = load("release_flow")
SAVE_WORKFLOW = load("save_workflow")
DELETE_WORKFLOW = load("delete_workflow")
SAVE_ACTION = load("save_action")
SETTINGS = load("settings")
REGISTER = load("register")
UNREGISTER = load("unregister")
RIGHTS = load("rights")
