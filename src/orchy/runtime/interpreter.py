"""Which Python runs this node: a build without profile-guided optimization makes a node 10 to 15 % slower."""

from __future__ import annotations

import platform
import sysconfig

_OPTIMIZED = "--enable-optimizations"


def describe_interpreter() -> str:
    """Its name and version, and how it was built, as far as it knows: on Windows it does not."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    arguments = sysconfig.get_config_var("CONFIG_ARGS")
    if arguments is None:
        return name
    if _OPTIMIZED in arguments:
        return f"{name}, built with {_OPTIMIZED}"
    return f"{name}, built without {_OPTIMIZED}: one with it is 10 to 15 % faster"
