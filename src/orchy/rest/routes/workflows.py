"""Routes of workflow definitions."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response

from orchy.engine.catalog import Catalog
from orchy.flow.definition import Workflow
from orchy.rest.answers import answer, problem_json
from orchy.rest.requests import check_query, query_int, read_body

_VERSION_MAX = 2**31


def routes(catalog: Catalog) -> Blueprint:
    """The routes over a catalog."""
    blueprint = Blueprint("workflows", __name__)

    @blueprint.post("/workflow")
    async def save() -> Response:
        saved = await catalog.save_workflow(await read_body())
        return answer(
            {
                "created": saved.created,
                "name": saved.name,
                "version": saved.version,
                "warnings": [problem_json(warning) for warning in saved.warnings],
            }
        )

    @blueprint.post("/workflow/validate")
    async def validate() -> Response:
        errors, warnings = await catalog.validate_workflow(await read_body())
        return answer(
            {
                "valid": not errors,
                "errors": [problem_json(problem) for problem in errors],
                "warnings": [problem_json(problem) for problem in warnings],
            }
        )

    @blueprint.get("/workflow")
    async def list_all() -> Response:
        check_query()
        return answer({"workflows": [_shown(workflow) for workflow in await catalog.workflows()]})

    @blueprint.get("/workflow/<path:name>")
    async def show(name: str) -> Response:
        check_query("version")
        return answer(_shown(await catalog.workflow(name, query_int("version", None, 1, _VERSION_MAX))))

    @blueprint.delete("/workflow/<path:name>")
    async def delete(name: str) -> Response:
        await catalog.delete_workflow(name)
        return answer({"deleted": True, "name": name})

    return blueprint


def _shown(workflow: Workflow) -> dict[str, Any]:
    return {**workflow.source, "version": workflow.version}
