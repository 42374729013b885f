"""Group membership: SWIM gossip with Lifeguard's extensions. A pure machine, and the driver that runs it on sockets.

`machine` decides, `udp` does the IO, `simulator` runs thousands of machines in virtual time. Nothing here knows Orchy.
"""
