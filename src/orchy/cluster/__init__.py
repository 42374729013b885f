"""The cluster as one node sees it: its members, which node owns which partition, and how a node joins."""
