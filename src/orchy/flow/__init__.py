"""What a flow is and how it moves. Pure: no IO, no clock, no randomness."""
