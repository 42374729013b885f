"""Other systems, measured beside Orchy on the same machine."""
