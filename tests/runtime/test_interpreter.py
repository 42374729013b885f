"""What a node says of the Python that it runs on."""

from __future__ import annotations

import platform
import sysconfig

import pytest

from orchy.runtime.interpreter import describe_interpreter


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("'--prefix=/usr' '--enable-optimizations' '--with-lto'", ", built with --enable-optimizations"),
        ("'--prefix=/opt'", ", built without --enable-optimizations: one with it is 10 to 15 % faster"),
        (None, ""),
    ],
)
def test_how_it_was_built(monkeypatch, arguments, said):
    monkeypatch.setattr(sysconfig, "get_config_var", {"CONFIG_ARGS": arguments}.get)
    assert describe_interpreter() == f"{platform.python_implementation()} {platform.python_version()}{said}"
