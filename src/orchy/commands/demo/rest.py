"""A REST client that can do what the demo needs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from functools import partial
from typing import Any

import trio

TIMEOUT_SECONDS = 10.0


class RestClient:
    """Calls one server. Raises OSError if it can't be reached, RuntimeError with its sentence if it refuses."""

    def __init__(self, address: str) -> None:
        self._base = f"http://{address}"

    async def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return await trio.to_thread.run_sync(partial(self._call, path, None))

    async def post(self, path: str, body: Any) -> Any:
        """The JSON of a POST."""
        return await trio.to_thread.run_sync(partial(self._call, path, json.dumps(body).encode()))

    def _call(self, path: str, body: bytes | None) -> Any:
        request = urllib.request.Request(self._base + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {json.load(error).get('error', error)}") from None
