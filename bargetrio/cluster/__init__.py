"""cluster looks after the nodes of this daemon: kill, revive, crash containment, faults, who leads, and the other daemons.

May import node and the rooms above it. Start at port.py, what web may ask; supervisor.py answers, fault_plan.py breaks.
"""
