"""System actions, one in each file, and their registry. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from orchy.actions.delay import Delay
from orchy.actions.script import JavaScript
from orchy.actions.switch import Switch
from orchy.actions.wait import Wait
from orchy.flow.system import SystemAction

_ALL: tuple[SystemAction, ...] = (
    Delay(),
    JavaScript(),
    Switch(),
    Wait(),
)

#: The system actions by the names that definitions use.
SYSTEM_ACTIONS: Mapping[str, SystemAction] = MappingProxyType({action.name: action for action in _ALL})
