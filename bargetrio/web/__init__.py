"""web answers people and scripts: REST, the event log's page, metrics.

May import protocol, cluster's border, eventlog, quart_trio; hypercorn only in server.py. Everything it knows it asks of
`cluster.port.Cluster`. Start at routes.py, which lists every path, then rest.py.
"""
