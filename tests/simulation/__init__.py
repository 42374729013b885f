"""A whole cluster in one process, in virtual time, from one seed. `python -m tests.simulation --help` runs it.

The nodes are production code: orchestrator, dispatcher, timer loop, lease keeper, cluster. Around them everything is
simulated: the way to the store, the gossip, the workers, the clients, and a nemesis that breaks them. The one durable
arbiter is the in-memory reference store, and each change of it is checked (`invariants`).
"""
