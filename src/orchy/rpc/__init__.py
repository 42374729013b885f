"""The worker API: HTTP/2 as a machine (`http2`), gRPC calls on it (`grpc`), and what the calls mean (`api`)."""
