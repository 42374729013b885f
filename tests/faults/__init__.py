"""Faults on real processes: nodes, workers and a Redis that are killed, stopped, cut and slowed while flows run.

`python -m tests.faults NAME ...` makes the runs; `checker` says which promise was broken; `faults` lists what breaks.
"""
