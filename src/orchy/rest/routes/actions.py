"""Routes of action definitions."""

from __future__ import annotations

from quart import Blueprint, Response

from orchy.engine.catalog import Catalog
from orchy.flow.validation.definitions import parse_action_definition
from orchy.rest.answers import answer
from orchy.rest.requests import check_query, read_body


def routes(catalog: Catalog) -> Blueprint:
    """The routes over a catalog."""
    blueprint = Blueprint("actions", __name__)

    @blueprint.post("/action")
    async def save() -> Response:
        definition = parse_action_definition(await read_body())
        return answer({"created": await catalog.save_action(definition), "name": definition.name})

    @blueprint.get("/action")
    async def list_all() -> Response:
        check_query()
        return answer({"actions": await catalog.actions()})

    @blueprint.get("/action/<path:name>")
    async def show(name: str) -> Response:
        check_query()
        return answer(await catalog.action(name))

    @blueprint.delete("/action/<path:name>")
    async def delete(name: str) -> Response:
        await catalog.delete_action(name)
        return answer({"deleted": True, "name": name})

    return blueprint
