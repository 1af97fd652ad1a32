"""What README shows is what happens."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stories.daemon import Daemon, running

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("readme")) as daemon:
        yield daemon


def test_the_python_example_runs(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the addresses differ."""
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    for number in range(3):
        assert f'"127.0.0.1:810{number + 1}"' in example
        example = example.replace(f'"127.0.0.1:810{number + 1}"', f'"{daemon.addresses[number]}"')
    exec(compile(example, str(README), "exec"), {})
    assert capsys.readouterr().out == "Another\n"
