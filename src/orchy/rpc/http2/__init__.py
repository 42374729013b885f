"""HTTP/2 (RFC 9113) as a machine without IO, for both roles."""
