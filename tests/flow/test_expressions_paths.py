"""Paths: what each form finds, what counts as found, and what can't be parsed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchy.flow.definition import JSON
from orchy.flow.execution import Finished
from orchy.flow.expressions.metered import PATTERNS_MAX, compile_pattern
from orchy.flow.expressions.paths import PATH_CHARS_MAX, PATH_STEPS_MAX, PathError, compile_path
from orchy.flow.expressions.templates import FlowContext

ITEMS = [{"p": 5, "n": "a", "1": "one"}, {"p": "x"}, {"p": 20, "n": "b"}]
INPUT = {
    "items": ITEMS,
    "a-b": 1,
    "first name": "Ada",
    "ü": {"😀": 2, "b": 3},
    "a": 3,
    "b": 4,
    "big": 1e308,
    "text": "hi",
    "yes": True,
    "nothing": None,
    "grid": [[1, 2], [3]],
    "it's": {'"q"': 1, "a}b": 2, "x.y": 3, "a\\b": 4},
    "0": "zero",
    "@type": "ld",
    "many a": ["a" * 50_000 + "!"],
}
CONTEXT = FlowContext(
    INPUT,
    {1: Finished(1, {"u": 1, "2": {"3": [{"x.y": 7}]}}), 2: Finished(1, [10, 20]), 3: Finished(1, None)},
)


def find(path: str) -> tuple[JSON, bool]:
    return compile_path(path).find(CONTEXT)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.input.a", 3),
        ("$['input']['a']", 3),
        ('$["input"].a', 3),
        ("$.['input'].'a'", 3),
        ("$.input.a-b", 1),
        ("$.input['first name']", "Ada"),
        ("$.input.ü.😀", 2),
        ("$.input.items[0].n", "a"),
        ("$.input.items[-1].n", "b"),
        ("$.input.grid[0][1]", 2),
        ('$.input["it\'s"][\'"q"\']', 1),
        ("$.input['it\\'s']['a}b']", 2),
        ("$.input['it\\'s']['x.y']", 3),
        ("$.input['it\\'s']['a\\\\b']", 4),
        ("$.input.0", "zero"),
        ("$.input.items[0].1", "one"),
        ("$.1.output.u", 1),
        ("$1.output.u", 1),
        ("$['1'].output.2.3[0]['x.y']", 7),
        ("$.2.output[1]", 20),
        ("$.2", {"output": [10, 20]}),
        ("$.input.@type", "ld"),
    ],
)
def test_a_plain_path_finds_its_value(path: str, value: JSON) -> None:
    assert find(path) == (value, True)


@pytest.mark.parametrize("path", ["$.input.nothing", "$.3.output"])
def test_a_null_that_is_found_is_not_missing(path: str) -> None:
    assert find(path) == (None, True)


@pytest.mark.parametrize(
    "path",
    [
        "$.nope",
        "$.9.output",
        "$.01.output",
        "$['+1'].output",
        "$['\u0661'].output",
        "$.1.nope",
        "$[1].output",
        "$.input.nope",
        "$.input.nothing.x",
        "$.input.text[0]",
        "$.input.text.x",
        "$.input.items[3]",
        "$.input.items[-4]",
        "$.input.items.0",
        "$.input[0]",
        "$.input.items[99999999999]",
        "$.input.nope + 1",
        "$.input.a * $.input.nope",
    ],
)
def test_a_path_that_leads_nowhere_gives_null_and_says_so(path: str) -> None:
    assert find(path) == (None, False)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("$.input.items[*].n", ["a", "b"]),
        ("$.input.items[*].1", ["one"]),
        ("$.input.items[*].ü", []),
        ("$.input.items[0:2].p", [5, "x"]),
        ("$.input.items[5:]", []),
        ("$.input.items[?(@.p > 10)].n", ["b"]),
        ("$.input.items[?(@.p == 5.0)].n", ["a"]),
        ("$.input.items[?(@.p > 10.5)].p", [20]),
        ("$.input.items[?(@.1 == 'one')].p", [5]),
        ("$.input.items[?(@.p == 1)]", []),
        ("$.input.items[?(@.n =~ '^b$')].p", [20]),
        ("$.input.items[?(@.n == 'a}')]", []),
        ("$.input.items[0,2].p", [5, 20]),
        ("$.input['a','b']", [3, 4]),
        ("$.input[a,b]", [3, 4]),
        ("$.input.ü.*", [2, 3]),
        ("$.*.output.u", [1]),
        ("$..['x.y']", [3, 7]),
        ("$.input..n", ["a", "b"]),
        ("$.input.grid[*][*]", [1, 2, 3]),
        ("$.input.ü.`keys`", ["😀", "b"]),
    ],
)
def test_a_path_that_can_find_several_gives_a_list(path: str, values: list[JSON]) -> None:
    found, anything = find(path)
    assert anything
    assert sorted(found, key=str) == sorted(values, key=str)


def test_the_list_of_a_place_that_is_not_there_is_empty_and_reported() -> None:
    assert find("$.input.nope[*]") == ([], False)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.input.a + $.input.b", 7),
        ("$.input.a*2", 6),
        ("$.input.b - 1", 3),
        ("$.input.items.`len`", 3),
        ("$.input.items[0].n.`parent`.p", 5),
        ("$.input.grid[\\`this`]", [[3], [1, 2]]),
    ],
)
def test_what_the_library_computes_is_one_value(path: str, value: JSON) -> None:
    assert find(path) == (value, True)


@pytest.mark.parametrize(
    "path",
    [
        "$.input.text * 1000000000",
        "$.input.yes + 1",
        "$.input.big * 10",
        "$.input.items[\\p]",
        "$.input.a" + " + 1" * 1000,
    ],
)
def test_an_error_while_evaluating_is_nothing_found(path: str) -> None:
    assert find(path) == (None, False)


def filter_with(patterns: int) -> str:
    return "$.input.items[?(" + " & ".join(f"@.n =~ '^(x{n})?'" for n in range(patterns)) + ")]"


def test_the_patterns_of_a_path_stay_compiled() -> None:
    """Compiling one costs more than running it, and is not charged for."""
    query = compile_path(filter_with(PATTERNS_MAX))
    compile_pattern.cache_clear()
    found, _ = query.find(FlowContext({"items": [{"n": "q"}] * 50}, {}))
    assert len(found) == 50
    assert compile_pattern.cache_info().misses == PATTERNS_MAX


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("$", "names nothing"),
        ("$.", "names nothing"),
        ("$x.y", r"neither '\.' nor '\['"),
        ("$ .x", r"neither '\.' nor '\['"),
        ("$..", "not a JSONPath"),
        ("$.input[", "not a JSONPath"),
        ("$.input[?]", "not a JSONPath"),
        ("$.input.a b", "not a JSONPath"),
        ("$.input['a", "not a JSONPath"),
        ("$.input['a'b]", "not a JSONPath"),
        ("$.input.`nope`", "not a JSONPath"),
        ("$.input.`sub(x)`", "not a JSONPath"),
        ("$.input.items[?(@.n =~ '(')]", r"none of RE2's: missing \)"),
        ("$.input.items[?(@.n =~ '(?=a)')]", "none of RE2's: invalid perl operator"),
        ("$.input.text.`sub(/(a)(?=b)/, x)`", "none of RE2's"),
        (filter_with(PATTERNS_MAX + 1), f"more than {PATTERNS_MAX} regular expressions"),
        ("$." + "a" * PATH_CHARS_MAX, "longer than"),
        ("$.a" * 1 + ".a" * PATH_STEPS_MAX, "more than"),
    ],
)
def test_a_path_that_can_not_be_read_says_why(path: str, why: str) -> None:
    with pytest.raises(PathError, match=why):
        compile_path(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.input['many a'][?(@ =~ '^(a+)+$')]", []),
        ("$.input['many a'][?(@ =~ '^(a|aa)+$')]", []),
        ("$.input['many a'][?(@ =~ '^a*a*a*a*a*b')]", []),
        ("$.input['many a'][?(@ =~ '^(a+)+!$')]", ["a" * 50_000 + "!"]),
        ("$.input['many a'][0].`sub(/^(a+)+!/, b)`", "b"),
    ],
)
def test_a_regular_expression_that_would_backtrack_for_ever_does_not(path: str, value: JSON) -> None:
    """Python's own engine would never finish the first three."""
    assert find(path)[0] == value


def test_a_key_with_many_dots_is_one_step() -> None:
    key = "." * (PATH_STEPS_MAX * 2)
    assert compile_path(f"$.input['{key}']").steps == ("input", key)


def test_error_messages_do_not_speak_of_another_text() -> None:
    with pytest.raises(PathError) as raised:
        compile_path("$.input.some.where[?]")
    assert not any(char.isdigit() for char in str(raised.value))


def test_a_path_is_compiled_once() -> None:
    assert compile_path("$.input.items[*].p") is compile_path("$.input.items[*].p")


def test_what_is_found_is_shared_not_copied() -> None:
    assert find("$.input.items")[0] is ITEMS
    assert find("$.input.items[*]")[0][0] is ITEMS[0]


def test_evaluation_leaves_the_context_as_it_was() -> None:
    before = repr(CONTEXT.as_json())
    for path in ("$..*", "$.input.items[?(@.p > 1)]", "$.input.grid[\\`this`]", "$.input.ü.*"):
        find(path)
    assert repr(CONTEXT.as_json()) == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=15,
)


@given(json_values, st.data())
def test_every_place_of_a_document_is_found_by_its_keys(document: JSON, data: st.DataObject) -> None:
    path, value = "$['input']", document
    while isinstance(value, list | dict) and value:
        if isinstance(value, list):
            index = data.draw(st.integers(-len(value), len(value) - 1))
            path, value = f"{path}[{index}]", value[index]
        else:
            key = data.draw(st.sampled_from(sorted(value)))
            quote = data.draw(st.sampled_from("'\""))
            written = key.replace("\\", "\\\\").replace(quote, "\\" + quote)
            path, value = f"{path}[{quote}{written}{quote}]", value[key]
    if len(path) <= PATH_CHARS_MAX:
        found, anything = compile_path(path).find(FlowContext(document, {}))
        assert anything
        assert found is value


@given(st.text(alphabet="$.[]()'\"?@*:,+-/\\`{} 01ab=<>!&|~ü", max_size=30), json_values)
def test_any_text_is_a_path_or_a_path_error(text: str, document: JSON) -> None:
    try:
        path = compile_path("$" + text)
    except PathError:
        return
    value, found = path.find(FlowContext(document, {1: Finished(1, document)}))
    if not found:
        assert value is None or (path.many and value == [])
    elif path.many:
        assert isinstance(value, list)
