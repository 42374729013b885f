"""REST over quart-trio: routes are thin, one file a noun."""

from orchy.rest.app import create_app
from orchy.rest.http.server import RestServer
from orchy.rest.middleware.guard import Guard
from orchy.rest.services import Services

__all__ = ["Guard", "RestServer", "Services", "create_app"]
