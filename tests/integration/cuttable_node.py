"""`python -m orchy` whose gossip can be cut from others while it runs: `python cuttable_node.py CUT_FILE FLAGS...`.

The file holds the gossip ports from and to which nothing passes, one a line with a direction: `in 8401`, `out 8401`.
A cut network refuses nothing: what is sent into it has no answer.
"""

from __future__ import annotations

import sys
from pathlib import Path

from orchy.__main__ import main
from orchy.swim import udp

CUT_FILE = Path(sys.argv[1])


def is_cut(direction: str, port: int) -> bool:
    return f"{direction} {port}\n" in CUT_FILE.read_text()


class CuttableSockets(udp.Sockets):
    def receive(self):
        data, source = super().receive()
        while is_cut("in", source[1]):
            data, source = super().receive()
        return data, source

    def send(self, data, address):
        if not is_cut("out", address[1]):
            super().send(data, address)

    def refusals(self):
        return [address for address in super().refusals() if not is_cut("in", address[1])]

    async def connect(self, address):
        if is_cut("out", address[1]) or is_cut("in", address[1]):
            raise TimeoutError("cut")
        return await super().connect(address)


if __name__ == "__main__":
    CUT_FILE.touch()
    udp.Sockets = CuttableSockets
    sys.exit(main(sys.argv[2:]))
