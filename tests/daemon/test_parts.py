"""The parts of a daemon, before any of them runs."""

from pathlib import Path

import pytest

from bargetrio.config import load
from bargetrio.daemon.parts import Parts
from tests.stories.daemon import write_configuration


async def test_where_a_nodes_folder_is_away_there_is_no_room_and_nothing_is_made(tmp_path: Path) -> None:
    """A folder that was moved to a larger disk, or whose disk was unmounted, is not created anew."""
    configuration = load(write_configuration(tmp_path, 1))
    parts = Parts(configuration, None, debug=False, events_file=None)
    folder = configuration.data_dir / "node-0"
    with pytest.raises(FileNotFoundError):
        await parts._free_bytes(0)
    assert not folder.exists()
    folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError):
        await parts._free_bytes(0)
    assert list(folder.iterdir()) == []
    (folder / "meta").write_text("{}")
    assert await parts._free_bytes(0) > 0
