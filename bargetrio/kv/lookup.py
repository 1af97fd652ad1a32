"""What a read is answered, from a store as it is: by a node, and by the simulator's server."""

from bargetrio.kv.store import Store
from bargetrio.protocol.requests import GetAnswer, List, ListAnswer, Request


def look_up(store: Store, request: Request) -> GetAnswer | ListAnswer:
    """Return the answer; a list tells the index of the state that it shows, a get that of the key's last change, 0 for none."""
    if isinstance(request, List):
        items, after = store.items(request.prefix, request.after, request.limit, keys_only=request.keys_only)
        return ListAnswer(id=request.id, items=items, next=after, index=store.last_index)
    stored = store.get(request.key)  # what is no list is a get
    if stored is None:
        return GetAnswer(id=request.id, key=request.key, index=0)
    if stored.is_b64:
        return GetAnswer(id=request.id, key=request.key, index=stored.index, value_b64=stored.value)
    return GetAnswer(id=request.id, key=request.key, index=stored.index, value=stored.value)
