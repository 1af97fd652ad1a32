"""The server process: the nodes of this host, the page and REST, the event log, signals, systemd.

```
run.py          the process: start, signals, systemd, end            parts.py          nodes, cluster, API and files, put together
descriptors.py  how many connections the process may open            sd_notify.py      notifications to systemd
gc_policy.py    when the interpreter collects garbage                malloc_policy.py  when memory is returned to the system
```
May import protocol, raft, storage, transport, eventlog, replica, node, cluster, web, config and console. Start at run.py.
"""
