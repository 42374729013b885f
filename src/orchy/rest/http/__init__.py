"""HTTP/1.1 on Trio sockets: accepts connections, and hands requests to an ASGI application."""
