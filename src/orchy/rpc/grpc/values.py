"""`google.protobuf.Value` <-> JSON values. Pure.

Its numbers are doubles: an integral one up to 2^53 is read as an integer; an integer beyond 2^53 is sent as the nearest
double, one beyond all doubles as a string of its digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, Value

from orchy.errors import InvalidInput
from orchy.flow.definition import JSON

#: Up to here each integer is exactly a double.
EXACT_INTEGER_MAX = 2**53
#: Most lists and objects within each other. Each object costs three of the 100 levels that protobuf reads by default
#: (in C++, Java and Python), and an `Actions` message four: a value beyond 32 could be sent but not be read.
DEPTH_MAX = 30


def fill_map(data: MutableMapping[str, Value], items: Mapping[str, JSON]) -> None:
    """Put a JSON object into a message's map. Raises InvalidInput for what is not JSON, or nests too deep."""
    _fill_fields(data, items, 0)


def _fill_fields(fields: Any, items: Mapping[str, JSON], depth: int) -> None:
    for key, item in items.items():
        if not isinstance(key, str):
            raise InvalidInput(f"the key {key!r} is not a string")
        try:
            field = fields[key]
        except UnicodeEncodeError:
            raise InvalidInput(f"the key {key!r} has characters that UTF-8 can't hold") from None
        _fill(field, item, depth)


def _fill(value: Value, item: JSON, depth: int) -> None:
    match item:
        case str():
            try:
                value.string_value = item
            except UnicodeEncodeError:
                raise InvalidInput(f"the text {item[:50]!r} has characters that UTF-8 can't hold") from None
        case bool():
            value.bool_value = item
        case int() | float():
            value.number_value, digits = _to_double(item)
            if digits is not None:
                value.string_value = digits
        case None:
            value.null_value = NULL_VALUE
        case Mapping():
            _check_depth(depth)
            value.struct_value.SetInParent()
            _fill_fields(value.struct_value.fields, item, depth + 1)
        case list() | tuple():
            _check_depth(depth)
            value.list_value.SetInParent()
            for element in item:
                _fill(value.list_value.values.add(), element, depth + 1)
        case _:
            raise InvalidInput(f"a {type(item).__name__} is not a JSON value")


def _to_double(number: int | float) -> tuple[float, str | None]:
    """A number as a double; and its digits, if it is beyond all doubles."""
    try:
        double = float(number)
    except OverflowError:
        return 0.0, str(number)
    return _check_finite(double), None


def json_of_map(data: Mapping[str, Value]) -> dict[str, JSON]:
    """The JSON object in a message's map. Raises InvalidInput for NaN, infinities and what nests too deep."""
    return {key: _json_of(item, 0) for key, item in data.items()}


def _json_of(value: Value, depth: int) -> JSON:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = _check_finite(value.number_value)
            return int(number) if number.is_integer() and abs(number) <= EXACT_INTEGER_MAX else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            _check_depth(depth)
            return {key: _json_of(item, depth + 1) for key, item in value.struct_value.fields.items()}
        case "list_value":
            _check_depth(depth)
            return [_json_of(item, depth + 1) for item in value.list_value.values]
        case _:  # null, and a Value in which nothing is set
            return None


def _check_depth(depth: int) -> None:
    if depth >= DEPTH_MAX:
        raise InvalidInput(f"the data has more than {DEPTH_MAX} lists and objects within each other")


def _check_finite(number: float) -> float:
    if not math.isfinite(number):
        raise InvalidInput("the data has a number that JSON can't hold (NaN or infinity)")
    return number
