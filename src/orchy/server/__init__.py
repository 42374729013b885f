"""One server process: its settings, and the composition root that wires its parts."""
