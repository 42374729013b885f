"""More partitions, nodes and Redis servers, and what the figures say of larger sites."""
