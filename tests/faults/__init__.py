"""Faults on real processes: nodes, workers and a Redis that are killed, stopped, cut and slowed while flows run.

`python -m tests.faults NAME ...` makes the runs; `checker` finds broken promises; `faults` has the list of faults.
"""
