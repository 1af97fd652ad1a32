"""REST as /openapi.json describes it, tried by schemathesis against a real daemon: no 500, no undocumented answer, no hang."""

import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from tests.stories.daemon import running

EXAMPLES = 130
LEFT_OUT = {("POST", "/nodes/{id}/kill"), ("PUT", "/faults")}
"""They would do what they are for; the stories and the campaign try them."""


@pytest.mark.long
def test_every_documented_request_gets_a_documented_answer(tmp_path: Path) -> None:
    """Good and bad values for every parameter and body."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schemathesis

    tried: Counter[str] = Counter()
    with running(tmp_path, 3) as daemon:
        daemon.put("kept", "as it was")
        schema: Any = schemathesis.openapi.from_url(f"http://{daemon.api}/openapi.json")
        for result in schema.get_all_operations():
            operation = result.ok()
            name = operation.method.upper(), operation.path
            if name not in LEFT_OUT:
                _try(schemathesis, operation, " ".join(name), tried)
        kept = daemon.get("kept")
        assert kept.json.get("value") == "as it was", (kept.status, kept.body)
        assert [node["state"] for node in daemon.http("GET", "/nodes").json["nodes"]] == ["running"] * 3
    print(tried.total(), tried)
    assert tried.total() >= 2000


def _try(schemathesis: Any, operation: Any, name: str, tried: Counter[str]) -> None:
    modes = schemathesis.GenerationMode

    for mode in (modes.POSITIVE, modes.NEGATIVE):
        strategy = operation.as_strategy(generation_mode=mode)

        @given(case=strategy)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def one(case: Any) -> None:
            if case.path_parameters.get("key") == "kept" if case.path_parameters else False:
                return
            response = case.call(timeout=10)
            tried[name] += 1
            assert response.status_code < 500 or response.status_code in (503,), (name, response.status_code, response.text)
            documented = operation.definition.raw["responses"]
            assert str(response.status_code) in documented or response.status_code in (400, 404, 405, 413), (
                name,
                response.status_code,
                response.text,
            )

        with suppress(Unsatisfiable):  # a request without parameters can't be made wrong
            one()
