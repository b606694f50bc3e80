"""What can be configured, what cannot, and what the error says."""

from __future__ import annotations

from typing import Any

import pytest

from lmg import Component, ConfigError
from lmg.config import MeshConfig, validate
from lmg.pipeline import draft
from lmg.testing import check_component
from lmg_stream_rescue import StreamRescue

HOLD = {"rescue": "hold"}
CONTINUE = {"rescue": "continue", "prefill": ["scripted"]}


def load(settings: dict[str, Any]) -> Any:
    mesh = validate(MeshConfig, {"pipeline": [{"stream_rescue": settings}]}, (), None)
    return draft(mesh, installed={}, classes={"stream_rescue": StreamRescue})


@pytest.mark.parametrize("settings", [HOLD, CONTINUE, {**HOLD, "to": {"*": ["m"]}, "max_held_s": 30}])
def test_it_loads(settings: dict[str, Any]) -> None:
    assert load(settings).listed[0].name == "stream_rescue"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "rescue: this setting is required"),
        ({"rescue": "continue"}, "rescue: continue needs prefill"),
        ({**HOLD, "prefill": ["vllm"]}, "prefill is a setting of rescue: continue, and this is rescue: hold"),
        (
            {**CONTINUE, "max_held_s": 3},
            "max_held_s is a setting of rescue: hold, and this is rescue: continue",
        ),
        ({**HOLD, "max_held_bytes": 2**30}, "max_held_bytes is more than max_total_held_bytes"),
        ({**HOLD, "to": {"gpt-*": []}}, "to: 'gpt-*' leads nowhere"),
        ({**CONTINUE, "prefill": [" "]}, "prefill: a pattern has 1 to 512 characters"),
        ({**HOLD, "max_rescues": 0}, "max_rescues"),
        ({**CONTINUE, "max_prefill_bytes": 2**21}, "max_prefill_bytes"),
        ({**CONTINUE, "prefill_style": {"x": "guess"}}, "prefill_style"),
        ({"rescue": "hold", "max_held": 3}, "did you mean 'max_held_s'?"),
    ],
)
def test_what_makes_no_sense_is_refused_at_start(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(settings)
    assert said in str(error.value)


def test_the_written_text_is_kept_only_where_it_is_needed() -> None:
    def needs(settings: dict[str, Any]) -> bool:
        from lmg import Host

        return StreamRescue(
            StreamRescue.Config.model_validate(settings), Host(), "stream_rescue"
        ).needs_written

    assert not needs(HOLD)
    assert needs(CONTINUE)


@pytest.mark.parametrize("settings", [HOLD, CONTINUE], ids=["hold", "continue"])
async def test_it_behaves_like_every_component(settings: dict[str, Any]) -> None:
    def factory() -> tuple[type[Component], dict[str, Any]]:
        return StreamRescue, settings

    await check_component(factory)
