"""The REST API over quart-trio: one file of routes a noun, behind an HTTP/1.1 server and middleware of its own."""

from orchy.rest.app import create_app
from orchy.rest.http.limits import Limits as HttpLimits
from orchy.rest.http.server import RestServer
from orchy.rest.middleware.guard import Guard
from orchy.rest.services import Services

__all__ = ["Guard", "HttpLimits", "RestServer", "Services", "create_app"]
