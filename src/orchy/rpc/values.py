"""`google.protobuf.Value` <-> JSON values. Pure.

Its numbers are doubles: an integral one up to 2^53 comes in as an integer; an integer beyond 2^53 goes out as the
nearest double.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value

from orchy.errors import InvalidInput
from orchy.flow.definition import JSON

#: Up to here each integer is a double of its own.
EXACT_INTEGER_MAX = 2**53
DEPTH_MAX = 100


def fill_value(value: Value, item: JSON) -> None:
    """Put a JSON value into a message. Raises InvalidInput for what is none."""
    match item:
        case None:
            value.null_value = NULL_VALUE
        case bool():
            value.bool_value = item
        case int() | float():
            try:
                value.number_value = float(item)
            except OverflowError:
                value.string_value = str(item)  # larger than any double: at least nothing is lost
        case str():
            try:
                value.string_value = item
            except (UnicodeEncodeError, ValueError):
                raise InvalidInput("a text has characters that UTF-8 can't hold") from None
        case Mapping():
            value.struct_value.SetInParent()
            fill_struct(value.struct_value, item)
        case list() | tuple():
            value.list_value.SetInParent()
            for element in item:
                fill_value(value.list_value.values.add(), element)
        case _:
            raise InvalidInput(f"a {type(item).__name__} is not a JSON value")


def fill_struct(struct: Struct, items: Mapping[str, JSON]) -> None:
    """Put a JSON object into a message."""
    for key, item in items.items():
        if not isinstance(key, str):
            raise InvalidInput(f"the key {key!r} is not a string")
        fill_value(struct.fields[key], item)


def json_of(value: Value, depth: int = 0) -> JSON:
    """The JSON value in a message. Raises InvalidInput for NaN, infinities and nesting over DEPTH_MAX."""
    if depth > DEPTH_MAX:
        raise InvalidInput(f"the data nests more than {DEPTH_MAX} deep")
    match value.WhichOneof("kind"):
        case "number_value":
            return _number(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return {key: json_of(item, depth + 1) for key, item in value.struct_value.fields.items()}
        case "list_value":
            return [json_of(item, depth + 1) for item in value.list_value.values]
        case _:
            return None


def _number(number: float) -> int | float:
    if not math.isfinite(number):
        raise InvalidInput("the data has a number that JSON can't hold (NaN or infinity)")
    if number.is_integer() and abs(number) <= EXACT_INTEGER_MAX:
        return int(number)
    return number


def json_of_map(data: Mapping[str, Value]) -> dict[str, JSON]:
    """The JSON object in a message's map."""
    return {key: json_of(item, 1) for key, item in data.items()}
