"""No browser is no reason to pass."""

import shutil

import pytest

from tests.browser.chrome import MISSING, find_chromium


def test_a_missing_browser_fails_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install, and does not skip."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium") as failed:
        find_chromium()
    assert str(failed.value) == MISSING
