"""The worker library: plain functions become the user actions of workflows. Users need to know nothing of Trio.

    from orchy.worker import Worker

    worker = Worker("127.0.0.1:8099")


    @worker.action("query-db", retry_count=3, timeout_seconds=30)
    def query_db(data: dict) -> dict:
        return {"user": {"id": data["userId"], "name": "Ada"}}


    worker.run()

`python -m orchy.worker MODULE:WORKER` runs the worker that a module has.
"""

from orchy.worker.action import ActionContext, ActionFailed
from orchy.worker.worker import Worker

__all__ = ["ActionContext", "ActionFailed", "Worker"]
