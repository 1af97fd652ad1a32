"""Limits that both ends of a connection know (docs/wire_format.md); docs/limits.md has every bound."""

PROTOCOL_VERSION = 1
"""What clients and nodes speak."""
PEER_PROTOCOL_VERSION = 3
"""The protocol between nodes: from 2 on a hello states the store's standing, and appends a digest; from 3 on a
hello is answered twice, by who the node is and by its verdict."""

KEY_BYTES = 1024
"""A key's longest UTF-8 form, in bytes."""
VALUE_BYTES = 1024 * 1024
"""A value's longest decoded form, in bytes."""

HELLO_LINE_BYTES = 4 * 1024
"""The longest first line of a connection, in bytes."""
MOST_NODES = 50
"""Nodes of a cluster: the hello of a peer names the store of each, and has at most HELLO_LINE_BYTES."""
MOST_NODE_ID = 2**53 - 1
"""The largest node id that every reader of JSON reads exactly (RFC 8259, 6); the live page is one."""
LINE_BYTES = 8 * 1024 * 1024
"""The longest line on a connection that has said hello."""
PAGE_BYTES = 1024 * 1024
"""Keys and values of one answer to a list, as UTF-8 or base64; a single larger item still travels, alone.

JSON makes six bytes of a control character at worst, so a page always fits a line.
"""

HELLO_TIMEOUT_S = 5.0
"""A connection that has not said hello by then is closed."""
UNAUTHENTICATED = 256
"""Connections without a hello; when full, the oldest is closed and the newcomer admitted."""
PEER_CONNECTIONS = 4
"""Accepted connections with the id of one peer; when full, the oldest is closed and the newcomer admitted.

A peer has one, and a second one while the end of the first is not noticed yet.
"""
ITEMS = 100
"""Keys that a list returns if its client does not say how many."""
MOST_ITEMS = 1000
"""Keys that a client may ask for in one list."""
HELLO_CHARACTERS = 200
"""The longest name of a cluster, nonce or proof in a hello."""
MOST_DELAY_MS = 60_000
"""The longest delay that a fault gives a link or a disk."""
MOST_PORT = 65_535
"""The largest port of TCP."""
INT_DIGITS = 18
"""Digits of a number in a text (a path, a query, a command line): each such number is below MAX_INT."""
QUOTED_CHARACTERS = 80
"""What an error quotes of the text that it refuses."""
JSON_DEPTH = 16
"""Deeper nesting than this is not a request."""

MAX_INT = 2**63 - 1
"""Largest term, index, id that the wire knows."""
