"""cluster runs the nodes of one daemon (start, kill, revive, crash containment, faults) and forwards requests to the leader.

May import node and the rooms above it. Start at port.py, the interface that web uses; supervisor.py implements it.
"""
