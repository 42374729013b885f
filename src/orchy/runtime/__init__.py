"""Tasks, sockets and open files: what Orchy needs of Trio and the operating system, and knows nothing of flows."""
