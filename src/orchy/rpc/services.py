"""What there is to call: purerpc's services, by the path of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from google.protobuf.message import DecodeError
from purerpc import Service
from purerpc.rpc import Cardinality

from orchy.rpc.framing import Code, Status


@attrs.frozen
class Method:
    """How a method is called, and whether it takes and answers one message or a stream of them."""

    function: Callable[..., Any]
    request_type: Any
    takes_stream: bool
    answers_stream: bool

    def parse(self, data: bytes) -> Any:
        """A request. Raises Status."""
        try:
            return self.request_type.FromString(data)
        except (DecodeError, UnicodeDecodeError):
            raise Status(Code.INVALID_ARGUMENT, f"the message is not a {self.request_type.DESCRIPTOR.name}") from None


def methods_of(services: Iterable[Service]) -> Mapping[str, Method]:
    """All methods, by "/Service/Method"."""
    methods: dict[str, Method] = {}
    for service in services:
        for name, bound in service.methods.items():
            cardinality = bound.signature.cardinality
            methods[f"/{service.name}/{name}"] = Method(
                bound.method_fn,
                bound.signature.request_type,
                cardinality in (Cardinality.STREAM_UNARY, Cardinality.STREAM_STREAM),
                cardinality in (Cardinality.UNARY_STREAM, Cardinality.STREAM_STREAM),
            )
    return methods
