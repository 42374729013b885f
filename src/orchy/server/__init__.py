"""One server process: its settings, its store, and the composition root that wires its parts."""
