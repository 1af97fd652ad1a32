"""A real daemon for the tests of one file."""

from collections.abc import Iterator

import pytest

from tests.stories.daemon import Daemon, running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Three nodes with a leader."""
    with running(tmp_path_factory.mktemp("client")) as daemon:
        yield daemon
