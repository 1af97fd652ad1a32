"""The answer to a read from a store's present state, for a node and for the simulator's server."""

from bargetrio.kv.store import Store
from bargetrio.protocol.requests import Get, GetAnswer, List, ListAnswer, Request


def look_up(store: Store, request: Request) -> tuple[GetAnswer | ListAnswer, int]:
    """Return the answer, and the approximate size of its keys and values in bytes.

    A list's `index` is that of the state read, a get's that of the key's last change, 0 for none.
    """
    if type(request) is Get:  # of a msgspec class isinstance takes several times as long to say no
        key = request.key
        stored = store.get(key)
        if stored is None:
            return GetAnswer(id=request.id, key=key, index=0), 0
        value = stored.value
        if stored.is_b64:
            return GetAnswer(id=request.id, key=key, index=stored.index, value_b64=value), len(value)
        return GetAnswer(id=request.id, key=key, index=stored.index, value=value), len(value)
    assert isinstance(request, List), "a read is a list or a get"
    items, after = store.items(request.prefix, request.after, request.limit, keys_only=request.keys_only)
    size = sum([len(item.key) + len(item.value or item.value_b64 or "") for item in items])
    return ListAnswer(id=request.id, items=items, next=after, index=store.last_index), size
