"""The worker process of the demo: `python -m orchy.commands.demo.worker HOST:PORT`. Prints what it is asked to send."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from orchy.worker import ActionContext, Worker

USERS = {
    1234: {"name": "Max", "gender": "MALE", "age": 31, "phone": "555-0101"},
    1235: {"name": "Eva", "gender": "FEMALE", "age": 28, "phone": "555-0102"},
    1236: {"name": "Ida", "gender": "FEMALE", "age": 19, "phone": "555-0103"},
}


def make_worker(server: str) -> Worker:
    """The four user actions of the notification workflow."""
    worker = Worker(server, worker_id="demo-worker")

    @worker.action("query-db", retry_count=3)
    def query_db(data: dict[str, Any]) -> dict[str, Any]:
        user = USERS[data["userId"]]
        return {"user": user, "email": f"{user['name']}@example.org".lower(), "phone": user["phone"]}

    def send(data: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        line = json.dumps({"flowId": context.flow_id, "action": context.action_name, "data": data})
        sys.stdout.write(f"{line}\n")  # one write: print() lets other threads write before the newline
        sys.stdout.flush()
        return {"sent": True}

    for name in ("sendSms", "sendEmail", "sendWahtsapp"):
        worker.action(name, retry_count=3)(send)
    return worker


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    make_worker(sys.argv[1]).run()
