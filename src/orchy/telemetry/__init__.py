"""What a node tells its operators: log lines, metrics, and the exceptions that it did not expect."""
