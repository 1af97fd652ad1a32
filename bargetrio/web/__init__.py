"""The HTTP server: REST, the live page and the event log, metrics.

May import protocol, transport, cluster and eventlog. All answers come from `cluster.cluster.Cluster`. Start at routes.py, which
lists every path, then rest.py. server.py accepts connections, lane_connection.py and fast_lane.py answer plain requests on
them, and hypercorn all others.
"""
