"""A cluster in a dictionary: passes the same contract as the library does against a real one (test_contract.py)."""

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import DeleteAnswer, GetAnswer, Item, ListAnswer, Put, PutAnswer, ReadLevel, check_request
from bargetrio.protocol.validation import text_or_b64
from bargetrio.protocol.views import Faults, LeaderView, NodeView


def address_of(node_id: int) -> str:
    """Return where a node would be."""
    return f"127.0.0.1:{8101 + node_id}"


class FakeBarge:
    """Three nodes, one of which leads. `problem` is raised by the next call."""

    def __init__(self, *node_ids: int) -> None:
        self.problem: BaseException | None = None
        self.running = dict.fromkeys(node_ids or (0, 1, 2), True)
        self.in_force = Faults()
        self._items: dict[str, Item] = {}
        self._index = 1

    def put(self, key: str, value: str | bytes, *, if_index: int | None = None, if_absent: bool = False) -> PutAnswer:
        """Write a key."""
        text, value_b64 = text_or_b64(value) if isinstance(value, bytes) else (value, None)
        check_request(Put(id=0, key=key, value=text, value_b64=value_b64, if_index=if_index, if_absent=if_absent))
        self._fail()
        found = self._items.get(key)
        now = 0 if found is None else found.index
        if (if_index is not None and if_index != now) or (if_absent and now):
            raise BargeError("precondition_failed", f"the key's index is {now}")
        self._index += 1
        self._items[key] = Item(key=key, index=self._index, value=text, value_b64=value_b64)
        return PutAnswer(id=0, key=key, index=self._index, term=1, created=found is None)

    def get(self, key: str, *, read: ReadLevel = "linearizable") -> GetAnswer:
        """Read a key."""
        self._check(key)
        found = self._items.get(key)
        if found is None:
            return GetAnswer(id=0, key=key, index=0)
        if found.value_b64 is not None:
            return GetAnswer(id=0, key=key, index=found.index, value_b64=found.value_b64)
        return GetAnswer(id=0, key=key, index=found.index, value=found.value)

    def delete(self, key: str, *, if_index: int | None = None) -> DeleteAnswer:
        """Remove a key."""
        self._check(key)
        found = self._items.get(key)
        if if_index is not None and if_index != (0 if found is None else found.index):
            raise BargeError("precondition_failed", "the key has changed")
        if found is None:
            return DeleteAnswer(id=0, key=key, index=0, term=1, deleted=False)
        self._index += 1
        del self._items[key]
        return DeleteAnswer(id=0, key=key, index=self._index, term=1, deleted=True)

    def items(
        self, prefix: str = "", *, after: str = "", limit: int = 100, keys_only: bool = False, read: ReadLevel = "linearizable"
    ) -> ListAnswer:
        """Read keys in order."""
        self._fail()
        found = [item for key, item in sorted(self._items.items()) if key.startswith(prefix) and key > after]
        shown = [Item(key=item.key, index=item.index) if keys_only else item for item in found[:limit]]
        more = shown[-1].key if len(found) > limit else None
        return ListAnswer(id=0, items=shown, next=more, index=self._index)

    def leader(self) -> LeaderView:
        """Say who leads."""
        self._fail()
        living = [node_id for node_id, runs in self.running.items() if runs]
        if 2 * len(living) <= len(self.running):
            raise BargeError("no_leader", "no quorum follows anybody")
        return LeaderView(leader=living[0], term=1, address=address_of(living[0]))

    def nodes(self) -> list[NodeView]:
        """Tell the nodes."""
        self._fail()
        return [
            NodeView(id=node_id, address=address_of(node_id), api="127.0.0.1:8100", state="running" if runs else "killed")
            for node_id, runs in self.running.items()
        ]

    def kill(self, node_id: int) -> bool:
        """Crash a node."""
        return self._turn(node_id, False)

    def revive(self, node_id: int) -> bool:
        """Start it again."""
        return self._turn(node_id, True)

    def faults(self) -> Faults:
        """Tell the faults."""
        self._fail()
        return self.in_force

    def set_faults(self, faults: Faults) -> Faults:
        """Put these in force."""
        self._fail()
        named = [*(n for group in faults.groups for n in group), *(disk.node for disk in faults.disks)]
        named += [end for link in faults.links for end in (link.source, link.target)]
        if unknown := set(named) - self.running.keys():
            raise BargeError("not_found", f"there is no node {min(unknown)}")
        self.in_force = faults
        return self.in_force

    def _turn(self, node_id: int, wanted: bool) -> bool:
        self._fail()
        if node_id not in self.running:
            listed = ", ".join(str(known) for known in self.running)
            raise BargeError("not_found", f"there is no node '{node_id}'; the nodes are {listed}")
        changed = self.running[node_id] is not wanted
        self.running[node_id] = wanted
        return changed

    def _check(self, key: str) -> None:
        check_request(Put(id=0, key=key, value=""))
        self._fail()

    def _fail(self) -> None:
        problem, self.problem = self.problem, None
        if problem is not None:
            raise problem
