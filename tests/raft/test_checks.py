"""A peer's message that contradicts itself is refused before the core sees it; what a correct node sends is not."""

import pytest
from msgspec import Raw, structs

from bargetrio.protocol.limits import MOST_NODES
from bargetrio.raft.checks import MOST_MEMBERS, MOST_TERMS_AHEAD, check_message
from bargetrio.raft.messages import (
    AppendReply,
    AppendRequest,
    Demotion,
    Entry,
    Introduction,
    LogDiffers,
    Message,
    PreVoteReply,
    SnapshotMeta,
    SnapshotRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from bargetrio.raft.standing import Configuration, Standing, encode_configuration
from tests.raft.cores import IDENTITY, STORES, THREE, append, snapshot

READMITS_2 = Configuration(index=5, identity=IDENTITY, stores={**STORES, 2: "new"}, readmitted=2, former=("store-2",))


def carrying(*configurations: Configuration, named: tuple[int, ...]) -> AppendRequest:
    """An append of entry 4, of the configurations from entry 5 on, and of one more; `named` are the indices it tells."""
    others = append(term=3, prev=(3, 1), log="2 3")
    held = tuple(Entry(3, encode_configuration(each)) for each in configurations)
    return structs.replace(others, entries=(others.entries[0], *held, others.entries[1]), configurations=named)


def with_stores(stores: dict[int, str], *, readmitted: int | None = 2) -> AppendRequest:
    return carrying(structs.replace(READMITS_2, stores=stores, readmitted=readmitted), named=(5,))


LABEL = structs.replace(snapshot("1 1 2 2 3"), configuration=READMITS_2)


def piece(label: SnapshotMeta = LABEL, *, term: int = 3, offset: int = 0, size: int = 10) -> SnapshotRequest:
    return SnapshotRequest(term=term, leader_id=1, snapshot=label, offset=offset, data=b"x" * size)


def introduced(standing: Standing) -> Introduction:
    return Introduction(term=0, node_id=1, standing=standing, asks=True)


GOOD: list[Message] = [
    append(),
    append(term=3, prev=(3, 1), log="1 2 2 3"),
    carrying(READMITS_2, named=(5,)),
    carrying(READMITS_2, READMITS_2, named=(5, 6)),
    piece(),
    piece(structs.replace(LABEL, configuration=None), offset=90),
    introduced(Standing(store="new")),
    introduced(Standing(store="new", members=(0, 1, 2))),
    introduced(Standing(store="new", members=(1, 2**53 - 1))),
    introduced(Standing(store="new", members=tuple(range(MOST_MEMBERS)))),
    introduced(Standing(store="store-1", identity=IDENTITY, birth=STORES)),
    introduced(Standing(store="new", identity=IDENTITY, admitted=7)),
]

BAD: list[tuple[str, Message]] = [
    ("the entries here are 4 to 6", carrying(READMITS_2, named=(7,))),
    ("the entries here are 4 to 6", carrying(READMITS_2, named=(3,))),
    ("the entries here are 4 to 6", carrying(READMITS_2, named=(2**63 - 1,))),
    ("the entries here are 1 to 0", structs.replace(append(), configurations=(1,))),
    ("entry 5 is said to hold", carrying(READMITS_2, READMITS_2, named=(6, 5))),
    ("entry 5 is said to hold", carrying(READMITS_2, named=(5, 5))),
    ("entry 4 is said to hold a configuration, and does not", carrying(READMITS_2, named=(4,))),
    ("other members: 0, 1, not 0, 1, 2", with_stores({0: "store-0", 1: "store-1"}, readmitted=1)),
    ("other members: 0, 1, 2, 3, not 0, 1, 2", with_stores({**STORES, 3: "new"}, readmitted=3)),
    ("readmits node 7", with_stores(STORES, readmitted=7)),
    ("has the cluster's identity", carrying(structs.replace(READMITS_2, identity=""), named=(5,))),
    ("an entry of term 1 follows one of term 2", append(term=3, prev=(3, 2), log="1 3")),
    ("an entry of term 1 follows one of term 2", append(term=3, prev=(3, 1), log="2 1 3")),
    ("a leader of term 3 has an entry of term 4", append(term=3, prev=(3, 1), log="3 4")),
    ("a leader of term 2 has a snapshot of term 3", piece(term=2)),
    ("have 32 bits", piece(structs.replace(LABEL, digest=2**32))),
    ("have 32 bits", piece(structs.replace(LABEL, checksum=2**63 - 1))),
    ("one entry at least", piece(structs.replace(LABEL, last_index=0))),
    ("not empty", piece(structs.replace(LABEL, size=0), size=0)),
    ("beyond the snapshot's 100 bytes", piece(offset=91)),
    ("beyond the snapshot's 100 bytes", piece(offset=2**63 - 1, size=0)),
    ("other members: 0, 1, not 0, 1, 2", piece(structs.replace(LABEL, members=(0, 1)))),
    ("other members", piece(structs.replace(LABEL, members=(2, 1, 0)))),
    ("a configuration of 6", piece(structs.replace(LABEL, configuration=structs.replace(READMITS_2, index=6)))),
    (
        "other members: 1, not 0, 1, 2",
        piece(structs.replace(LABEL, configuration=Configuration(index=0, identity="i", stores={1: "s"}))),
    ),
    ("is not that of the set of stores", introduced(Standing(store="store-1", identity="other", birth=STORES))),
    ("is not that of the set of stores", introduced(Standing(store="store-1", birth=STORES))),
    ("and names the nodes", introduced(Standing(store="new", identity=IDENTITY, admitted=7, members=(0, 1, 2)))),
    ("51 nodes: 50 at most", introduced(Standing(store="new", members=tuple(range(MOST_MEMBERS + 1))))),
    ("rising order", introduced(Standing(store="new", members=(0, 2, 1)))),
    ("rising order", introduced(Standing(store="new", members=(0, 1, 1, 2)))),
    ("does not name it", introduced(Standing(store="new", members=(0, 2)))),
    ("is not in the set of stores", introduced(Standing(store="other", identity=IDENTITY, birth=STORES))),
]


@pytest.mark.parametrize("message", GOOD)
def test_what_a_correct_node_sends_is_taken(message: Message) -> None:
    """Figure 2, Figure 13: the same shapes as below, with right numbers."""
    check_message(message, THREE, 3)


@pytest.mark.parametrize(("why", "message"), BAD)
def test_a_message_that_contradicts_itself_is_refused(why: str, message: Message) -> None:
    """Terms never fall along a log (Raft 5.3), and a leader has no entry of a term after its own (Figure 2)."""
    with pytest.raises(ValueError, match=why):
        check_message(message, THREE, 3)


@pytest.mark.parametrize("ahead", [MOST_TERMS_AHEAD + 1, 2**63 - 1 - 7])
def test_a_term_that_no_cluster_reaches_is_refused_whatever_the_message(ahead: int) -> None:
    """Raft 5.1: it would be obeyed, remembered, and leave no higher one for an election."""
    for message in (
        append(),
        VoteRequest(term=1, candidate_id=1, last_log_index=1, last_log_term=1),
        VoteReply(term=1, voter_id=1, granted=False),
        PreVoteReply(term=1, voter_id=1, granted=False),
        AppendReply(term=1, follower_id=1, success=False, round=0),
        LogDiffers(term=1, follower_id=1, index=1),
        Demotion(term=1, leader_id=1, cause="lost", index=1, store="s"),
        TimeoutNow(term=1, leader_id=1),
    ):
        with pytest.raises(ValueError, match="is no term of this cluster"):
            check_message(structs.replace(message, term=7 + ahead), THREE, 7)
    check_message(append(term=7 + MOST_TERMS_AHEAD), THREE, 7)


def test_a_command_that_is_nested_too_deep_holds_no_configuration() -> None:
    """It is refused, and not taken for a failure of this node."""
    deep = Entry(3, Raw(b'{"op":"members","x":' + b"[" * 5000 + b"]" * 5000 + b"}"))
    message = structs.replace(append(term=3, prev=(3, 1)), entries=(deep,), configurations=(4,))
    with pytest.raises((ValueError, RecursionError)):
        check_message(message, THREE, 3)


def test_a_standing_may_state_as_many_nodes_as_a_configuration_may_name() -> None:
    """raft/ does not know the configuration's file."""
    assert MOST_MEMBERS == MOST_NODES
