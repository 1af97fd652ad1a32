"""The state of one server, as an object."""

from tests.raft.cores import leader


def test_a_cores_attributes_fit_into_what_python_keeps_in_the_object_itself() -> None:
    """Up to 29 in Python 3.11: with more, each look-up takes a quarter longer. What is more belongs to an object of its own."""
    assert len(vars(leader().core)) <= 29
