"""All attacks: importing a file of them registers them."""

from __future__ import annotations

import importlib
import pkgutil

import tests.attacks
from tests.attacks.harness import ATTACKS

__all__ = ["ATTACKS"]

for module in pkgutil.iter_modules(tests.attacks.__path__):
    if not module.name.startswith(("test_", "_")):
        importlib.import_module(f"{tests.attacks.__name__}.{module.name}")
