"""The gossip: in virtual time, and on real processes."""
