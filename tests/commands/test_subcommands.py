"""The table of subcommands: each has its module, its help, and its line in the help of `python -m orchy`."""

from __future__ import annotations

from importlib import import_module

import pytest

from orchy.__main__ import main
from orchy.commands import EXIT_USAGE, SUBCOMMANDS
from orchy.commands.serve import make_parser


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_subcommand_has_its_own_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        import_module(SUBCOMMANDS[name].module).make_parser().parse_args(["--help"])
    assert not stop.value.code
    assert capsys.readouterr().out.startswith("usage: python -m orchy")


def test_the_help_lists_all_subcommands():
    text = make_parser().format_help()
    for name, subcommand in SUBCOMMANDS.items():
        assert f"  {name:8} {subcommand.help}\n" in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--partitions", "0"], "orchy: --partitions is '0' but must be a whole number from 1 to 16384"),
        (["serve", "--partitions", "0"], "orchy: --partitions is '0' but must be a whole number from 1 to 16384"),
        (["verify", "--redis-url", "http://x"], "orchy: --redis-url: "),
    ],
)
def test_the_first_word_chooses_the_subcommand_and_a_server_is_the_default(argv, words, capsys):
    assert main(argv) == EXIT_USAGE
    assert capsys.readouterr().err.startswith(words)


def test_an_unknown_word_is_a_usage_error(capsys):
    assert main(["sevre"]) == EXIT_USAGE
    assert "unrecognized arguments: sevre" in capsys.readouterr().err
