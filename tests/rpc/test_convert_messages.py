"""Messages of the worker API become the domain's values and back, whatever a worker sends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.errors import InvalidInput
from orchy.flow.definition import RetryPolicy
from orchy.rpc.api.convert import ERROR_CHARACTERS_MAX, EncodedActions, definition_of, encode_action, result_of
from orchy.rpc.generated import action_service_pb2 as pb
from orchy.rpc.grpc.values import DEPTH_MAX, EXACT_INTEGER_MAX, fill_map, json_of_map

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-EXACT_INTEGER_MAX, EXACT_INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


def nested(depth: int, kind: type) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


def encoded(parameters: dict[str, object]) -> bytes:
    return encode_action(
        workflow="w", flow_id="f", action_id=7, name="act", attempt=2, parameters=parameters, timeout_seconds=2.1
    )


@given(st.dictionaries(TEXT, VALUE, max_size=4))
def test_json_that_goes_out_and_comes_back_is_the_same(data):
    message = pb.Action()
    fill_map(message.data, data)
    assert json_of_map(pb.Action.FromString(message.SerializeToString()).data) == data


@given(st.integers(-EXACT_INTEGER_MAX, EXACT_INTEGER_MAX))
def test_integral_numbers_up_to_2_to_53_come_in_as_integers(number):
    message = pb.ActionResult()
    message.data["n"].number_value = float(number)
    back = json_of_map(message.data)["n"]
    assert (back, type(back)) == (number, int)


def test_an_integer_beyond_2_to_53_travels_as_the_nearest_double():
    message = pb.Action()
    fill_map(message.data, {"n": EXACT_INTEGER_MAX + 1, "huge": 10**400})
    assert message.data["n"].number_value == float(EXACT_INTEGER_MAX + 1)
    assert message.data["huge"].string_value == str(10**400)
    assert isinstance(json_of_map({"n": message.data["n"]})["n"], int)
    message.data["n"].number_value = 2.0**60
    assert isinstance(json_of_map({"n": message.data["n"]})["n"], float)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_can_not_hold_are_refused_in_both_directions(number):
    message = pb.ActionResult(flowId="f")
    message.data["deep"].list_value.values.add().number_value = number
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        result_of(message)
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        fill_map(pb.Action().data, {"n": [number]})


@pytest.mark.parametrize("kind", [list, dict])
def test_whatever_is_sent_can_be_read_by_a_client_with_protobufs_own_depth_limit(kind):
    body = encoded({"x": nested(DEPTH_MAX, kind)})
    actions = pb.Actions.FromString(EncodedActions([body]).SerializeToString())
    assert json_of_map(actions.actions[0].data) == {"x": nested(DEPTH_MAX, kind)}
    with pytest.raises(InvalidInput, match="within each other"):
        encoded({"x": nested(DEPTH_MAX + 1, kind)})


def test_a_result_that_nests_too_deep_is_refused():
    message = pb.ActionResult(flowId="f")
    value = message.data["x"]
    for _ in range(DEPTH_MAX + 1):
        value = value.list_value.values.add()
    with pytest.raises(InvalidInput, match="within each other"):
        result_of(message)


@pytest.mark.parametrize("parameters", [{"\ud800": 1}, {"a": "\ud800"}, {"a": {"\ud800": 1}}])
def test_text_that_utf8_can_not_hold_is_refused(parameters):
    with pytest.raises(InvalidInput, match="UTF-8"):
        encoded(parameters)


@pytest.mark.parametrize("item", [{1, 2}, b"bytes", object(), {"a": {1: 2}}])
def test_what_is_no_json_is_refused(item):
    with pytest.raises(InvalidInput):
        encoded({"x": item})


def test_an_action_has_all_that_a_worker_needs():
    action = pb.Action.FromString(encoded({"userId": 5}))
    assert (action.workflowName, action.flowId, action.actionId, action.actionName) == ("w", "f", 7, "act")
    assert (action.retryCount, action.type) == (2, pb.Action.USER)
    assert action.timeoutSeconds == 3, "rounded up"
    assert json_of_map(action.data) == {"userId": 5}


@given(st.lists(st.dictionaries(TEXT, VALUE, max_size=3), max_size=5), st.integers(0, 200_000))
def test_actions_put_together_from_their_bytes_are_what_protobuf_makes_of_them(datas, padding):
    bodies = [encoded(data) for data in datas] + [encoded({"long": "x" * padding})]
    whole = pb.Actions(actions=[pb.Action.FromString(body) for body in bodies])
    assert pb.Actions.FromString(EncodedActions(bodies).SerializeToString()) == whole


def test_a_result_without_the_actions_name_is_a_result():
    result = result_of(pb.ActionResult(flowId="f", actionId=3, retryCount=1, workerId="w1"))
    assert (result.flow_id, result.action_id, result.attempt, result.output) == ("f", 3, 1, {})
    assert (result.error, result.worker) == (None, "w1")


def test_a_result_without_a_flow_is_refused():
    with pytest.raises(InvalidInput, match="flowId"):
        result_of(pb.ActionResult(actionId=3))


def fail_result(error: str = "", /, **data: object) -> pb.ActionResult:
    message = pb.ActionResult(flowId="f", actionId=3, retryCount=1, status=pb.ActionResult.FAIL, error=error)
    fill_map(message.data, data)
    return message


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (fail_result("no such user", error="not this"), "no such user"),
        (fail_result(error="told in the data"), "told in the data"),
        (fail_result(code=5, why="ä"), '{"code": 5, "why": "ä"}'),
        (fail_result(), "the worker gave no reason"),
    ],
)
def test_a_failure_says_why_wherever_the_worker_put_it(message, error):
    assert result_of(message).error == error


def test_a_failure_counts_even_if_its_reason_can_not_be_read():
    message = fail_result()
    message.data["error"].number_value = math.nan
    assert "NaN" in result_of(message).error


def test_a_failures_text_has_a_limit():
    assert len(result_of(fail_result("x" * 100_000)).error) == ERROR_CHARACTERS_MAX


def test_a_definition_is_read_with_fixed_retries_as_the_default():
    definition = definition_of(pb.ActionDefinition(name="a", retryCount=3, retryAfterSeconds=2, timeoutSeconds=9))
    assert (definition.name, definition.retry_count, definition.retry_after_seconds) == ("a", 3, 2)
    assert (definition.retry_policy, definition.timeout_seconds) == (RetryPolicy.FIXED, 9)


def test_a_wrong_definition_is_refused_with_all_its_problems():
    with pytest.raises(InvalidInput) as caught:
        definition_of(pb.ActionDefinition(name="", retryCount=-1, retryPolicy="SOMETIMES"))
    assert len(caught.value.problems) == 3
