"""Tasks, sockets and limits: small tools on Trio and the operating system that know nothing of flows."""
