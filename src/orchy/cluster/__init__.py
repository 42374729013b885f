"""The cluster as one node sees it: its members, who owns which partition, and how to join."""
