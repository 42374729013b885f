"""REST over quart-trio: routes are thin, one file a noun."""

from orchy.rest.app import Services, create_app
from orchy.rest.server import serve

__all__ = ["Services", "create_app", "serve"]
