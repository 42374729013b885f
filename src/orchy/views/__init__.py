"""What users see of flows. Reads only."""
