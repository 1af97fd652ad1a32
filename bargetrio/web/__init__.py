"""The HTTP server: REST, the live page and the event log, metrics.

May import protocol, cluster and eventlog. All answers come from `cluster.cluster.Cluster`. Start at routes.py, which lists every
path, then rest.py.
"""
