"""Every body and query that REST takes, and every body that it answers: a Struct each, whose fields stand nowhere else.

Requests are decoded and checked by them (`requests`), answers are encoded from them, and `openapi` describes them.
Names are camelCase on the wire. A field that is UNSET does not appear in an answer, one that is None appears as null.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from orchy.engine import starts
from orchy.flow.definition import JSON, ActionDefinition
from orchy.flow.effects import RecordType
from orchy.flow.execution import State
from orchy.views.listing import PAGE_MAX

PAGE_DEFAULT = 50
VERSION_MAX = 2**31
#: Of why a flow is released; its history keeps it.
REASON_CHARACTERS_MAX = 1_000


def camel_case(name: str) -> str:
    """A name as it stands in JSON; also one that is in upper case in Python."""
    first, *rest = name.lower().split("_")
    return first + "".join(map(str.capitalize, rest))


#: The types of entries in a flow's history, as they are shown.
HISTORY_TYPES = {record: camel_case(record.name) for record in RecordType}

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, description="ISO 8601 in UTC")]
NonEmpty = Annotated[str, Meta(min_length=1)]
FlowId = Annotated[str, Meta(min_length=1, description="1 to 128 of A-Z a-z 0-9 . _ -")]


class Request(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A body, or the parameters of a query. What is not known is refused."""


class Body(Struct, frozen=True, rename="camel"):
    """A body that is answered."""


# Errors.


class Problem(Body, frozen=True):
    """One thing that is wrong with a request. `pointer` is a JSON pointer into its body (RFC 6901), "" for all of it;
    `line` and `column` count from 1 and are there where the body's text is at fault."""

    message: str
    pointer: str
    line: int | UnsetType = UNSET
    column: int | UnsetType = UNSET


class Error(Body, frozen=True):
    """What every error looks like."""

    error: Annotated[str, Meta(description="one sentence")]
    details: list[Problem]


# Starts.


class StartRequest(starts.StartRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A flow to be started. Without a `version`: the newest one; without a `flowId`: a new id."""

    name: NonEmpty
    input: JSON = msgspec.field(default_factory=dict)
    flow_id: str | None = msgspec.field(name="flowId", default=None)


class Started(Body, frozen=True):
    """A flow that is durable; `created` is false where it was there before."""

    flow_id: str
    created: bool


class NotStarted(Body, frozen=True):
    """Why one start of a batch made no flow; `status` is what that start alone would have been answered."""

    error: str
    details: list[Problem]
    status: int


# Flows.


class EventRequest(Request, frozen=True):
    """An event for a flow. The same `id` again changes nothing."""

    name: NonEmpty
    flow_id: FlowId
    event: NonEmpty
    data: JSON = None
    id: str | None = None


class EventDelivery(Body, frozen=True):
    """`delivered` is false when the event is kept for a later wait."""

    delivered: bool
    duplicate: bool | UnsetType = UNSET
    warnings: list[Problem] | UnsetType = UNSET


class CommandRequest(Request, frozen=True):
    """A flow to be paused, resumed or cancelled, and the workflow that it is of."""

    name: NonEmpty
    flow_id: FlowId


class CommandOutcome(Body, frozen=True):
    """The flow's state after a command."""

    flow_id: str
    state: State


class ReleaseRequest(Request, frozen=True):
    """A flow that is to leave its quarantine, and why."""

    flow_id: FlowId
    reason: Annotated[str, Meta(min_length=1, description=f"1 to {REASON_CHARACTERS_MAX:,} characters")]


class Released(Body, frozen=True):
    """The flow goes on."""

    flow_id: str
    released: bool


class FlowsQuery(Request, frozen=True):
    """Which flows are listed, and how many on a page."""

    name: str | None = None
    state: State | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    cursor: Annotated[str, Meta(description="that of the page before")] | None = None
    quarantined: bool = False


class Quarantined(Body, frozen=True):
    """Since when a flow is set aside, and the error for which it is."""

    since: Time
    error: str


class Flow(Body, frozen=True):
    """A flow. A listing does not have the fields from `runningActions` on."""

    id: str
    name: str
    version: int
    state: State
    error: str | None
    created_at: Time
    ended_at: Time | None
    quarantined: Quarantined | UnsetType = UNSET
    running_actions: tuple[int, ...] | UnsetType = UNSET
    completed_actions: tuple[int, ...] | UnsetType = UNSET
    waiting_on_event: str | UnsetType | None = UNSET
    data: dict[str, JSON] | UnsetType = UNSET


class FlowPage(Body, frozen=True):
    """Some flows, newest first; `cursor` asks for those that follow, null at the end."""

    flows: list[Flow]
    cursor: str | None


class HistoryEntry(Body, frozen=True, omit_defaults=True):
    """One transition of a flow."""

    time: Time
    type: Annotated[str, Meta(extra_json_schema={"enum": sorted(HISTORY_TYPES.values())})]
    action_id: int | None = None
    action_name: str | None = None
    attempt: int | None = None
    worker: str | None = None
    detail: JSON = None


class History(Body, frozen=True):
    """Every transition of a flow, oldest first."""

    flow_id: str
    history: list[HistoryEntry]


# Workflows.


class ActionNode(Struct, rename="camel"):
    """One action of a workflow; a system action has fields of its own beside these. `type`, `join` in any case."""

    id: int
    type: Annotated[str, Meta(description="user or system")]
    name: str
    parameters: dict[str, JSON] | None = None
    next: dict[str, list[int]] | None = None
    join: Annotated[str, Meta(description="all or any")] | None = None


class WorkflowDefinition(Struct, rename="camel"):
    """A workflow as it is sent. It is described here, and read and checked by `flow.validation`."""

    name: str
    root_action: int
    actions: list[ActionNode]
    on_success: Annotated[str, Meta(description="NOOP or DELETE, in any case")] | None = None
    on_failure: Annotated[str, Meta(description="NOOP or DELETE, in any case")] | None = None


class Workflow(WorkflowDefinition, kw_only=True):
    """A workflow as it was sent, and the number of this version of it."""

    version: int


class Workflows(Body, frozen=True):
    """The newest version of each workflow. They are shown as they were sent."""

    workflows: list[dict[str, JSON]]


class WorkflowSaved(Body, frozen=True):
    """`created` is false when the newest version has the same content."""

    created: bool
    name: str
    version: int
    warnings: list[Problem]


class Validation(Body, frozen=True):
    """What a save would say."""

    valid: bool
    errors: list[Problem]
    warnings: list[Problem]


class WorkflowQuery(Request, frozen=True):
    """Which version; the newest if it is not given."""

    version: Annotated[int, Meta(ge=1, le=VERSION_MAX)] | None = None


class NoQuery(Request, frozen=True):
    """No parameters."""


class Deleted(Body, frozen=True):
    """What had this name is gone."""

    deleted: bool
    name: str


# Actions.


class ActionSaved(Body, frozen=True):
    """`created` is false when there was a definition of this name, which it replaced."""

    created: bool
    name: str


class Actions(Body, frozen=True):
    """All action definitions, by name."""

    actions: list[ActionDefinition]


# The node.


class Index(Body, frozen=True):
    """The routes, each as `METHODS /path`."""

    name: str
    routes: list[str]


class Live(Body, frozen=True):
    """The process runs."""

    live: bool


class Ready(Body, frozen=True):
    """Whether this node serves."""

    ready: bool


class Member(Body, frozen=True):
    """A node, as this one sees it."""

    name: str
    state: Annotated[str, Meta(extra_json_schema={"enum": ["alive", "suspect", "dead", "left"]})]
    incarnation: int
    gossip: str
    http: str | None
    grpc: str | None
    ready: bool
    registered: bool
    round_trip_ms: float | None


class Partition(Body, frozen=True):
    """Who owns a partition; null when no node does."""

    id: int
    owner: str | None
    epoch: int


class Cluster(Body, frozen=True):
    """The members and partitions of this node's cluster."""

    node: str
    members: list[Member]
    partitions: list[Partition]
