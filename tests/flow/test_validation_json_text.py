"""JSON text: what is accepted, what is refused, and the line and column of what is wrong."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchy.errors import InvalidInput
from orchy.flow.definition import JSON
from orchy.flow.json.scan import JSON_DEPTH_MAX, REPEATED_KEYS_MAX, Place, scan
from orchy.flow.json.text import (
    Lines,
    line_and_column,
    locate,
    not_json,
    offset_in_string,
    parse_json,
    pointer,
    read_json,
)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        (b"", 1, 1, "the text is empty"),
        (b" \n ", 1, 1, "the text is empty"),
        (b'{"a": 1,\n "a": 2}', 2, 2, "the key 'a' is there twice"),
        (b'{"\\u0061": 1, "a": 2}', 1, 15, "the key 'a' is there twice"),
        (b'{"a": nul}', 1, 7, "a value is expected, not 'nul'"),
        (b'{"a":\n\n  truex}', 3, 3, "a value is expected, not 'truex'"),
        (b"[1,2", 1, 5, "the text ends where ',' or ']' is expected"),
        (b'{"a"', 1, 5, "the text ends where ':' is expected"),
        (b"[1 2]", 1, 4, "',' or ']' is expected, not '2'"),
        (b'{"a":1 "b":2}', 1, 8, "',' or '}' is expected, not '\"'"),
        (b"[1,]", 1, 4, "a comma stands before ']'"),
        (b'{"a":1,}', 1, 8, "a comma stands before '}'"),
        (b'{"a" 1}', 1, 6, "':' is expected, not '1'"),
        (b"{'a':1}", 1, 2, 'a key in double quotes is expected, not "\'"'),
        (b"{1:1}", 1, 2, "a key in double quotes is expected, not '1'"),
        (b"1 2", 1, 3, "the end of the text is expected, not '2'"),
        (b"]", 1, 1, "a value is expected, not ']'"),
        (b"01", 1, 1, "a value is expected, not '01'"),
        (b"-", 1, 1, "a value is expected, not '-'"),
        (b"1.", 1, 1, "a value is expected, not '1.'"),
        (b"[NaN]", 1, 2, "NaN is not a JSON value"),
        (b"-Infinity", 1, 1, "-Infinity is not a JSON value"),
        (b"1e999", 1, 1, "the number is too large"),
        (b"[1,\n" + b"9" * 400 + b"]", 2, 1, "the number is too large"),
        (b'"abc', 1, 1, "a string has no closing quote"),
        (b'["abc\\', 1, 2, "a string has no closing quote"),
        (b'"a\nb"', 1, 3, "a string can't hold the control character '\\n': escape it"),
        (b'"a\\"\\x"', 1, 5, "the escape '\\\\x' is not one of JSON's"),
        (b'"\\u12"', 1, 2, "the escape '\\\\u' is not one of JSON's"),
        (b'["\\ud800"]', 1, 2, "the string has half of a surrogate pair (\\ud800 to \\udfff)"),
        (b'{"\\ud800":1}', 1, 2, "the string has half of a surrogate pair (\\ud800 to \\udfff)"),
        (b"\xef\xbb\xbf{}", 1, 1, "the text has a byte order mark"),
        (b'["\xc3\xbc",\n\xff]', 2, 1, "the byte 0xff is not UTF-8"),
        ('["ü😀", x]'.encode(), 1, 8, "a value is expected, not 'x'"),
        ('"a\ud800"', 1, 3, "the text has half of a surrogate pair"),
        (b"[" * 5000, 1, JSON_DEPTH_MAX + 1, f"lists and objects are nested deeper than {JSON_DEPTH_MAX}"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, 1, 501, f"lists and objects are nested deeper than {JSON_DEPTH_MAX}"),
    ],
)
def test_a_text_that_is_not_json_is_refused_with_line_and_column(
    text: bytes | str, line: int, column: int, message: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_json(text)
    (problem,) = raised.value.problems
    assert (problem.line, problem.column, problem.message) == (line, column, message)
    assert str(raised.value) == f"not valid JSON: {message} (line {line}, column {column})"


def test_every_repeated_key_is_reported_with_its_pointer_even_before_an_error() -> None:
    _, problems = read_json(b'{"a/b": {"~": 1, "~": 2}, "c": [{"d": 1, "d": 2}], "c": 0, x}')
    assert [(p.pointer, p.column) for p in problems] == [("/a~1b/~0", 18), ("/c/0/d", 42), ("/c", 52), ("", 60)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b" [1, 2.5, -0, 1e3, true, false, null] ", [1, 2.5, 0, 1000.0, True, False, None]),
        ('{"ü": "\\ud83d\\ude00 \\"\\\\\\/\\b\\f\\n\\r\\t"}', {"ü": '😀 "\\/\b\f\n\r\t'}),
        (b"1" + b"0" * 305, 10**305),
        (b"0." + b"0" * 400 + b"1", 0.0),
        (b'"' + b"7" * 400 + b'"', "7" * 400),
        (b"[" * JSON_DEPTH_MAX + b"]" * JSON_DEPTH_MAX, None),
        (b'["' + b"[" * 500 + b'\\"{"]', ["[" * 500 + '"{']),
        (b"[" + b"[]," * 500 + b"[]]", [[]] * 501),
        (b'{"a": {"a": 1}, "b": {"a": 1}}', {"a": {"a": 1}, "b": {"a": 1}}),
    ],
)
def test_sound_json_is_read(text: bytes | str, value: JSON) -> None:
    found = parse_json(text)
    if value is not None:
        assert found == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=30,
)


@given(json_values, st.booleans(), st.sampled_from([None, 1]))
def test_what_json_writes_is_read_back_and_located(value: JSON, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert parse_json(text) == value
    assert parse_json(text.encode()) == value
    wanted = dict(walk(value, ()))
    places = locate(text, set(wanted))
    assert set(places) == set(wanted)
    decoder = json.JSONDecoder()
    for where, place in places.items():
        assert decoder.raw_decode(text, place.value)[0] == wanted[where]
        if where and isinstance(where[-1], str):
            assert decoder.raw_decode(text, place.key)[0] == where[-1]
        else:
            assert place.key == place.value


def walk(value: JSON, where: tuple[str | int, ...]) -> list[tuple[tuple[str | int, ...], JSON]]:
    parts = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [(where, value), *(found for key, part in parts for found in walk(part, (*where, key)))]


@given(st.text(alphabet='{}[],:"\\ue1230.-+eEtrufalsn \n\t\x00NI\ud800ü', max_size=25))
@example('"\\ud834\\udd1e"')
@example('{"a":0,"a":0')
@example("-0.0e-0")
def test_the_exact_reader_and_the_fast_one_agree_on_what_is_json(text: str) -> None:
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.MsgspecError, UnicodeError):
        value = math.nan
    if text.isprintable() or "\ud800" not in text:
        found = scan(text)
        assert (found.error is None) == (value is not math.nan)
    result, problems = read_json(text)
    if problems:
        assert all(problem.line is not None and problem.column is not None for problem in problems)
        assert value is math.nan or all("twice" in problem.message for problem in problems)
    else:
        assert result == value


@given(st.binary(max_size=30))
def test_no_bytes_bring_a_traceback(raw: bytes) -> None:
    value, problems = read_json(raw)
    assert problems or json.loads(raw) == value


def test_a_repeated_key_that_is_wanted_is_located_where_it_counts() -> None:
    assert scan('{"a": 1, "a": 2}', {("a",)}).places == {("a",): Place(14, 9)}


def test_lines_and_columns_count_from_one() -> None:
    text = "ab\ncd\r\nef"
    assert [line_and_column(text, offset) for offset in (0, 1, 3, 7, 9)] == [(1, 1), (1, 2), (2, 1), (3, 1), (3, 3)]


def test_pointers_escape_what_rfc_6901_says() -> None:
    assert pointer(()) == ""
    assert pointer(("a/b", 0, "m~n", "")) == "/a~1b/0/m~0n/"


def test_python_values_without_json_counterpart_are_reported() -> None:
    deep: list[JSON] = []
    for _ in range(JSON_DEPTH_MAX):
        deep = [deep]
    value = {
        "fine": [1, 1.5, "x", None, True, {"a": []}],
        "nan": math.nan,
        "inf": [-math.inf],
        "huge": 10**400,
        "half": "\ud800",
        "set": {1},
        "tuple": (1,),
        "keys": {1: "x", "\udfff": 1, "ok": 2},
        "deep": deep,
    }
    reported = [(where[0], message) for where, message in not_json(value)]
    assert reported == [
        ("nan", "nan is not a JSON value"),
        ("inf", "-inf is not a JSON value"),
        ("huge", "the number is too large"),
        ("half", "the text has half of a surrogate pair"),
        ("set", "set is not a JSON type"),
        ("tuple", "tuple is not a JSON type"),
        ("keys", "the key 1 is not a text"),
        ("keys", "the key '\\udfff' is not a text"),
        ("deep", f"lists and objects are nested deeper than {JSON_DEPTH_MAX}"),
    ]


def test_a_value_that_holds_itself_comes_to_an_end() -> None:
    value: list[JSON] = []
    value.append(value)
    assert [message for _, message in not_json(value)] == [f"lists and objects are nested deeper than {JSON_DEPTH_MAX}"]


@pytest.mark.parametrize(
    ("text", "index", "rest"),
    [
        ('"abc"', 0, "abc"),
        ('"abc"', 2, "c"),
        ('"abc"', 3, '"'),
        ('"abc"', 9, '"'),
        (r'"\n\"x"', 2, "x"),
        (r'"\u00e9x"', 1, "x"),
        (r'"\ud83d\ude00x"', 1, "x"),
        ('"\U0001f600x"', 1, "x"),
    ],
)
def test_a_character_of_a_string_has_a_place_in_the_text(text: str, index: int, rest: str) -> None:
    assert text[offset_in_string(text, 0, index) :].startswith(rest)


def test_a_long_text_is_read_as_a_short_one_is() -> None:
    item = '{"a":[1,{"b":"x:{[\\\\"}],"c":{}}'
    text = "[" + ",".join([item] * 5_000) + "]"
    assert parse_json(text) == json.loads(text)
    twice = text.replace('"c":{}}]', '"a":{}}]')
    with pytest.raises(InvalidInput, match="'a' is there twice"):
        parse_json(twice)
    with pytest.raises(InvalidInput, match="nested deeper"):
        parse_json(text[:-1] + "," + "[" * 101 + "]" * 101 + "]")


def test_of_many_repeated_keys_the_first_are_reported() -> None:
    _, problems = read_json("{" + ",".join(['"a":1'] * 5_000) + "}")
    assert len(problems) == REPEATED_KEYS_MAX


@given(st.text(alphabet="ab\n", max_size=30), st.integers(0, 40))
def test_lines_are_those_of_the_text(text: str, offset: int) -> None:
    offset = min(offset, len(text))
    assert Lines(text).place(offset) == line_and_column(text, offset)
