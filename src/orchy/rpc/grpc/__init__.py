"""gRPC over HTTP/2: connections, calls and messages, for the server and for the worker library."""
