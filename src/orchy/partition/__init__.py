"""The loops that work for the partitions of this node, one a file."""
