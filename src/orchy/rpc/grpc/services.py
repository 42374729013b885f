"""The methods that can be called, by path, from purerpc's services."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from google.protobuf.message import DecodeError
from purerpc import Servicer
from purerpc.rpc import Cardinality

from orchy.rpc.grpc.framing import Code, Status


@attrs.frozen
class Method:
    """A method, and whether it takes and returns one message or a stream of them."""

    function: Callable[..., Any]
    request_type: Any
    takes_stream: bool
    answers_stream: bool

    def parse(self, data: bytes) -> Any:
        """Parse a request. Raises Status."""
        try:
            return self.request_type.FromString(data)
        except (DecodeError, UnicodeDecodeError):
            raise Status(Code.INVALID_ARGUMENT, f"the message is not a {self.request_type.DESCRIPTOR.name}") from None


def methods_of(servicers: Iterable[Servicer]) -> Mapping[str, Method]:
    """All implemented methods, by "/Service/Method": those that a servicer only inherits from its generated class are
    stubs, and left out.
    """
    methods: dict[str, Method] = {}
    for servicer in servicers:
        service = servicer.service
        for name, bound in service.methods.items():
            if _is_stub(servicer, name):
                continue
            cardinality = bound.signature.cardinality
            methods[f"/{service.name}/{name}"] = Method(
                bound.method_fn,
                bound.signature.request_type,
                cardinality in (Cardinality.STREAM_UNARY, Cardinality.STREAM_STREAM),
                cardinality in (Cardinality.UNARY_STREAM, Cardinality.STREAM_STREAM),
            )
    return methods


def _is_stub(servicer: Servicer, name: str) -> bool:
    """Whether a servicer's method is the one of its generated class."""
    generated = (ancestor for ancestor in type(servicer).__mro__ if Servicer in ancestor.__bases__)
    return any(vars(ancestor).get(name) is getattr(type(servicer), name) for ancestor in generated)
