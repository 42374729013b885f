"""Routes of action definitions."""

from __future__ import annotations

from quart import Blueprint

from orchy.engine.catalog import Catalog
from orchy.flow.definition import ActionDefinition
from orchy.flow.validation.definitions import parse_action_definition
from orchy.rest.operations import operation
from orchy.rest.schemas import Actions, ActionSaved, Deleted, NoQuery


def routes(catalog: Catalog) -> Blueprint:
    """The routes over a catalog."""
    blueprint = Blueprint("actions", __name__)

    @blueprint.post("/action")
    @operation("Save an action definition", raw_body=ActionDefinition, answer=ActionSaved, errors=(409,))
    async def save(body: bytes) -> ActionSaved:
        definition = parse_action_definition(body)
        return ActionSaved(created=await catalog.save_action(definition), name=definition.name)

    @blueprint.get("/action")
    @operation("List action definitions", query=NoQuery, answer=Actions)
    async def list_all(query: NoQuery) -> Actions:
        return Actions(await catalog.actions())

    @blueprint.get("/action/<path:name>")
    @operation("Show an action definition", query=NoQuery, answer=ActionDefinition, errors=(404,))
    async def show(name: str, query: NoQuery) -> ActionDefinition:
        return await catalog.action(name)

    @blueprint.delete("/action/<path:name>")
    @operation("Delete an action definition", answer=Deleted, errors=(404,))
    async def delete(name: str) -> Deleted:
        await catalog.delete_action(name)
        return Deleted(deleted=True, name=name)

    return blueprint
