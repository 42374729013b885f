"""What a node reports to its operators: log lines, metrics, and unexpected exceptions."""
