"""Bodies and queries become the Structs that routes take; every problem of one is reported exactly."""

from __future__ import annotations

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.errors import InvalidInput
from orchy.flow.execution import State
from orchy.rest.requests import PROBLEMS_MAX, decode, decode_query
from orchy.rest.schemas import (
    CommandRequest,
    EventRequest,
    FlowsQuery,
    NoQuery,
    ReleaseRequest,
    StartRequest,
    WorkflowQuery,
)

BODIES = [StartRequest, EventRequest, CommandRequest, ReleaseRequest]
SCHEMAS = msgspec.json.schema_components(BODIES, ref_template="#/components/{name}")[1]
NAMES = sorted({field.encode_name for kind in BODIES for field in msgspec.structs.fields(kind)})

floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
strange = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), values, max_size=7)
good = st.fixed_dictionaries({name: st.text(min_size=1, max_size=3) for name in ("name", "flowId", "event", "reason")})


@st.composite
def nearly_good(draw, kind):
    """An object with the fields that a body has, one of which may be another thing."""
    names = {field.encode_name for field in msgspec.structs.fields(kind)}
    return {name: value for name, value in draw(good).items() if name in names} | draw(
        st.dictionaries(st.sampled_from(sorted(names)), values, max_size=1)
    )


def problems_of(kind, value, where=()):
    """(pointer, message) of each problem."""
    with pytest.raises(InvalidInput) as caught:
        decode(kind, value, where)
    return [(problem.pointer, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("kind", BODIES)
@given(data=st.data())
def test_what_is_decoded_is_what_the_schema_allows(kind, data):
    value = data.draw(strange | nearly_good(kind))
    fits = jsonschema.Draft202012Validator(SCHEMAS[kind.__name__]).is_valid(value)
    try:
        decode(kind, value)
    except InvalidInput as error:
        assert not fits
        assert error.problems
    else:
        assert fits


def test_what_is_left_out_has_its_default():
    assert decode(StartRequest, {"name": "w"}) == StartRequest(name="w", input={})
    assert decode(StartRequest, {"name": "w", "input": None}).input is None
    start = decode(StartRequest, {"name": "w", "input": [1], "version": 2, "flowId": ""})
    assert start == StartRequest(name="w", input=[1], version=2, flow_id="")


def test_all_problems_are_reported_missing_fields_first():
    assert problems_of(EventRequest, {"id": 1, "~/": 2, "name": "", "event": None}) == [
        ("", "the field 'flowId' is missing"),
        ("/id", "'id' must be a string"),
        ("/~0~1", "unknown field '~/'; known here: data, event, flowId, id, name"),
        ("/name", "'name' must be a string"),
        ("/event", "'event' must be a string"),
    ]


@pytest.mark.parametrize("version", [1.0, 1.5, True, "1", [], {}])
def test_a_version_is_an_integer(version):
    problems = problems_of(StartRequest, {"name": "w", "version": version}, (7,))
    assert problems == [("/7/version", "'version' must be an integer")]


def test_problems_stand_where_the_object_stands():
    assert problems_of(StartRequest, {}, (3,)) == [("/3", "the field 'name' is missing")]


def test_the_number_of_reported_problems_is_limited():
    assert len(problems_of(StartRequest, {f"x{number}": 1 for number in range(5_000)})) == PROBLEMS_MAX


@pytest.mark.parametrize("value", [None, 3, "x", []])
def test_a_body_is_an_object(value):
    with pytest.raises(InvalidInput, match="the body must be a JSON object"):
        decode(StartRequest, value)


def test_a_query_is_read_by_its_types():
    query = decode_query(FlowsQuery, {"state": "running", "limit": "7", "quarantined": "TRUE", "name": ""})
    assert query == FlowsQuery(name="", state=State.RUNNING, limit=7, quarantined=True)
    assert decode_query(FlowsQuery, {}) == FlowsQuery(None, None, 50, None, False)
    assert decode_query(WorkflowQuery, {"version": "2"}).version == 2


@pytest.mark.parametrize(
    ("kind", "texts", "sentence"),
    [
        (NoQuery, {"x": ""}, "unknown query parameter x; known here: none"),
        (WorkflowQuery, {"b": "", "a": ""}, "unknown query parameter a, b; known here: version"),
        (FlowsQuery, {"x": ""}, "unknown query parameter x; known here: name, state, limit, cursor, quarantined"),
        (FlowsQuery, {"limit": "0"}, "limit must be a number from 1 to 500"),
        (FlowsQuery, {"limit": "\N{SUPERSCRIPT TWO}"}, "limit must be a number from 1 to 500"),
        (FlowsQuery, {"limit": "9" * 10_000}, "limit must be a number from 1 to 500"),
        (FlowsQuery, {"quarantined": ""}, "quarantined must be true or false"),
        (WorkflowQuery, {"version": "x"}, "version must be a number from 1 to 2147483648"),
    ],
)
def test_a_wrong_query_is_explained(kind, texts, sentence):
    with pytest.raises(InvalidInput) as caught:
        decode_query(kind, texts)
    assert str(caught.value) == sentence


def test_a_state_that_there_is_not_is_answered_with_those_that_there_are():
    with pytest.raises(InvalidInput, match=r"^state must be one of RUNNING, WAITING_DELAY, .*, CANCELLED$"):
        decode_query(FlowsQuery, {"state": "nope"})
