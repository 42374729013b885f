"""REST over quart-trio: routes are thin, one file a noun."""

from orchy.rest.app import Services, create_app
from orchy.rest.guard import Guard
from orchy.rest.server import RestServer

__all__ = ["Guard", "RestServer", "Services", "create_app"]
