"""The current rules for stepping flows. They change when workers register actions."""

from __future__ import annotations

from collections.abc import Mapping

from orchy.engine.catalog import Catalog
from orchy.flow.definition import DEFAULT_TIMEOUT_SECONDS
from orchy.flow.draft import Rules
from orchy.flow.limits import DEFAULT_LIMITS as DEFAULT_FLOW_LIMITS
from orchy.flow.limits import Limits
from orchy.flow.system import SystemAction


class RuleBook:
    """Builds rules from the catalog."""

    def __init__(
        self,
        catalog: Catalog,
        system_actions: Mapping[str, SystemAction],
        default_timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        limits: Limits = DEFAULT_FLOW_LIMITS,
    ) -> None:
        self._catalog = catalog
        self._system_actions = system_actions
        self._default_timeout_seconds = default_timeout_seconds
        self._limits = limits

    async def current(self) -> Rules:
        """The current rules. Raises what the store raises."""
        definitions = await self._catalog.definitions()
        return Rules(self._system_actions, definitions, self._default_timeout_seconds, self._limits)
