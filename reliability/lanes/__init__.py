"""A lane, its lock, and everything that decides whether it may send: breakers, slots, switches, faults of the setup.

A lane is a workflow and a tenant. `lane_lock` comes first in each transaction that changes one.
"""
