"""The worker library: plain functions become the user actions of workflows. Knows nothing of Trio on its outside.

::

    from orchy.worker import Worker

    worker = Worker("127.0.0.1:8099")

    @worker.action("query-db", retry_count=3, timeout_seconds=30)
    def query_db(data: dict) -> dict:
        return {"user": find(data["userId"])}

    worker.run()
"""

from orchy.worker.action import ActionContext, ActionFailed
from orchy.worker.worker import Worker

__all__ = ["ActionContext", "ActionFailed", "Worker"]
