"""Stores whose nodes have different `nodes:` lists begin no cluster together, and are not readmitted (OWN-187)."""

from msgspec import structs

from bargetrio.raft.messages import Introduction
from bargetrio.raft.standing import Configuration, Standing, as_stated, identity_of, why_refused
from tests.raft.births import BORN, STORES, UNBORN, introduced
from tests.raft.cores import Bench

FOUR = Standing(store="s1", members=(0, 1, 2, 3))
"""Node 1 with a new disk and a configuration that names a fourth node."""


def test_an_unborn_store_states_the_nodes_of_its_configuration() -> None:
    """A born one does not: it is judged by its identity."""
    assert as_stated(UNBORN[1], (0, 1, 2)) == Standing(store="s1", members=(0, 1, 2))
    assert as_stated(BORN, (0, 1, 2)) is BORN
    node = Bench(0, standing=UNBORN[0]).tick(0.0).perform()
    told = [message.standing for message in node.replies() if isinstance(message, Introduction)]
    assert told == [Standing(store="s0", members=(0, 1, 2))] * 2
    node.step(introduced(1)).step(introduced(2)).sync()
    born = [message.standing for message in node.replies() if isinstance(message, Introduction)]
    assert born == [BORN] * 2, "and neither while its set is being written"


def test_unborn_nodes_with_other_lists_begin_no_cluster_together() -> None:
    """OWN-187: node 1 would never adopt the set of three. However its message was accepted."""
    reason = (
        "node 1's configuration names nodes 0, 1, 2, 3, and the configuration here names nodes 0, 1, 2:"
        " they must be the same; see docs/operations.md"
    )
    assert why_refused(UNBORN[0], None, 1, FOUR, (0, 1, 2)) == reason
    node = Bench(0, standing=UNBORN[0])
    node.now = 3.0
    node.step(introduced(1, FOUR)).step(introduced(2))
    assert node.standings == []
    assert node.core.why_abstains() == reason
    assert node.core.bootstrap(node.now) == reason
    other = Bench(1, nodes=(0, 1, 2, 3), standing=UNBORN[1])
    other.core.hello_received(0, as_stated(UNBORN[0], (0, 1, 2)), 0.0)
    assert other.core.why_abstains().startswith("node 0's configuration names nodes 0, 1, 2, and the configuration here")
    node.step(introduced(1, as_stated(UNBORN[1], (0, 1, 2))))
    assert len(node.standings) == 1


def test_a_node_that_stated_another_list_long_ago_is_absent_from_a_bootstrap() -> None:
    """As one that was born in another cluster: what it said counts for ten seconds."""
    node = Bench(0, standing=UNBORN[0])
    node.step(introduced(1, FOUR))
    node.now = 11.0
    node.step(introduced(2))
    assert node.core.bootstrap(node.now) == ""
    assert node.perform().write_standings().core.standing.birth == {0: "s0", 1: "", 2: "s2"}


def test_an_unborn_node_with_another_list_does_not_hide_that_the_cluster_has_begun() -> None:
    """What a born member says counts first."""
    node = Bench(2, standing=Standing(store="new"))
    node.core.hello_received(1, FOUR, 0.0)
    node.core.hello_received(0, BORN, 0.0)
    assert "bargetrio readmit 2 takes it in" in node.core.why_abstains()


def test_members_refuse_a_new_store_whose_node_has_another_list() -> None:
    """OWN-187: `readmit` does not take it in. Also where the set names it already: its node refuses all appends."""
    configuration = Configuration(index=9, identity=BORN.identity, stores=STORES)
    reason = (
        "node 1's configuration names nodes 0, 1, 2, 3, and the members of this cluster are nodes 0, 1, 2:"
        " they must be the same; see docs/operations.md"
    )
    assert why_refused(BORN, configuration, 1, FOUR) == reason
    assert why_refused(BORN, configuration, 1, structs.replace(FOUR, store="new")) == reason
    assert "bargetrio readmit 1" in why_refused(BORN, configuration, 1, Standing(store="new", members=(0, 1, 2)))
    assert why_refused(BORN, configuration, 1, as_stated(UNBORN[1], (0, 1, 2))) == ""


def test_a_node_that_is_dialled_by_one_that_its_list_does_not_name_begins_no_cluster() -> None:
    """Hosts 3 and 4 were set up with a list of their own, beside the running cluster of five: its members dial them."""
    five = {node_id: f"s{node_id}" for node_id in range(5)}
    born = Standing(store="s0", identity=identity_of(five), birth=five)
    unborn = as_stated(UNBORN[0], (0, 1, 2, 3, 4))
    for stated, said in ((born, "node 0 belongs to a cluster"), (unborn, "node 0's configuration")):
        node = Bench(3, nodes=(3, 4), standing=Standing(store="s3"))
        node.now = 3.0
        node.core.hello_received(0, stated, node.now)
        node.step(introduced(4, Standing(store="s4")))
        assert node.standings == []
        assert node.core.why_abstains().startswith(said)
        assert node.core.bootstrap(node.now).startswith(said)
        node.now = 14.0
        node.step(introduced(4, Standing(store="s4")))
        assert len(node.standings) == 1, "what it said counts for ten seconds"


def test_a_late_member_that_is_dialled_by_a_node_of_another_cluster_adopts_its_own_set() -> None:
    """The other one has the same name, and an old address."""
    node = Bench(1, standing=UNBORN[1])
    five = {node_id: f"x{node_id}" for node_id in range(5)}
    node.core.hello_received(4, Standing(store="x4", identity=identity_of(five), birth=five), 0.0)
    node.step(introduced(0, BORN)).write_standings()
    assert node.core.standing.birth == STORES


def test_of_nodes_that_its_list_does_not_name_only_the_newest_is_kept() -> None:
    """Anyone who reaches the port may say hello under any number; and nothing of it is readmitted."""
    node = Bench(0, standing=UNBORN[0])
    for number in range(7, 1000):
        node.core.hello_received(number, Standing(store="x", replaces="s1"), 0.0)
    node.core.hello_received(1, UNBORN[1], 0.0)
    assert sorted(node.core.membership.last_hello) == [1, 999]
    assert sorted(node.core.membership.seen) == [1]
