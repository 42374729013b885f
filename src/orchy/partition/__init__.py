"""What runs for the partitions that this node owns, one loop a file."""
