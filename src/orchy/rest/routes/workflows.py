"""Routes of workflow definitions."""

from __future__ import annotations

from quart import Blueprint

from orchy.engine.catalog import Catalog
from orchy.flow import definition
from orchy.flow.definition import JSON
from orchy.rest.operations import operation
from orchy.rest.responses import problem_bodies
from orchy.rest.schemas import (
    Deleted,
    NoQuery,
    Validation,
    Workflow,
    WorkflowDefinition,
    WorkflowQuery,
    Workflows,
    WorkflowSaved,
)


def routes(catalog: Catalog) -> Blueprint:
    """The routes over a catalog."""
    blueprint = Blueprint("workflows", __name__)

    @blueprint.post("/workflow")
    @operation("Save a workflow definition", raw_body=WorkflowDefinition, answer=WorkflowSaved, errors=(409,))
    async def save(body: bytes) -> WorkflowSaved:
        saved = await catalog.save_workflow(body)
        return WorkflowSaved(saved.created, saved.name, saved.version, problem_bodies(saved.warnings))

    @blueprint.post("/workflow/validate")
    @operation("Validate a workflow definition without saving it", raw_body=WorkflowDefinition, answer=Validation)
    async def validate(body: bytes) -> Validation:
        errors, warnings = await catalog.validate_workflow(body)
        return Validation(not errors, problem_bodies(errors), problem_bodies(warnings))

    @blueprint.get("/workflow")
    @operation("List the newest version of each workflow", query=NoQuery, answer=Workflows)
    async def list_all(query: NoQuery) -> Workflows:
        return Workflows([_as_sent(workflow) for workflow in await catalog.workflows()])

    @blueprint.get("/workflow/<path:name>")
    @operation("Show a workflow definition", query=WorkflowQuery, answer=Workflow, errors=(404,))
    async def show(name: str, query: WorkflowQuery) -> dict[str, JSON]:
        return _as_sent(await catalog.workflow(name, query.version))

    @blueprint.delete("/workflow/<path:name>")
    @operation("Delete a workflow; flows that run go on", answer=Deleted, errors=(404,))
    async def delete(name: str) -> Deleted:
        await catalog.delete_workflow(name)
        return Deleted(deleted=True, name=name)

    return blueprint


def _as_sent(workflow: definition.Workflow) -> dict[str, JSON]:
    return {**workflow.source, "version": workflow.version}
