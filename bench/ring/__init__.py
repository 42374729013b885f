"""How partitions move when members join and leave, for Orchy's ring and two others."""
