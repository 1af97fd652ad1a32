"""stack is ring 2 of the simulator: the whole stack, from REST to the log, in trio's virtual time, repeatable by seed.

Real are replica, slots, forwarder, links and hellos, codec, web application, log code. Simulated are the network
(network.py), the disks and the threads that write them (disk_work.py). scale.py makes bounds small, tails.py checks what disks
lost. May import everything. Start at seed.py.
"""
