"""System actions, one a file, and their registry: a new one is a file and a line below. Pure."""

from __future__ import annotations

from orchy.actions.delay import Delay
from orchy.actions.script import JavaScript
from orchy.actions.switch import Switch
from orchy.actions.wait import Wait
from orchy.flow.system import SystemAction

SYSTEM_ACTIONS: dict[str, SystemAction] = {action.name: action for action in (Delay(), JavaScript(), Switch(), Wait())}
