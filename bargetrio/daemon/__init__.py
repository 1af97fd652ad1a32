"""The server process: the nodes of this host, the page and REST, the event log, signals, systemd.

```
run.py          the daemon, from binding the API to its end        gc_policy.py  when the interpreter collects garbage
descriptors.py  how many connections the process may open          sd_notify.py  notifications to systemd
malloc_policy.py  when memory is returned to the system
```
May import protocol, raft, storage, transport, eventlog, replica, node, cluster, web, config and console. Start at run.py.
"""
