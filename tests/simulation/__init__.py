"""A whole cluster in one process, in virtual time, from one seed. `python -m tests.simulation --help` runs it.

The nodes are production code: orchestrator, dispatcher, timer loop, lease keeper, cluster. Everything around them is
simulated: the connections to the store, the gossip, the workers, the clients, and a nemesis that injects faults. The
only durable state is the in-memory reference store, and each change of it is checked (`invariants`).
"""
