"""Sound in a chat's answer: what it says is text for the guards, the sound itself is what they cannot read."""

from __future__ import annotations

import orjson
import pytest

from lmg.dialects.openai_chat import OpenAIChat
from lmg.sse import SseEvent

SOUND = {"id": "audio_1", "data": "UklGRg==", "transcript": "It is 18 degrees.", "expires_at": 1760000000}
DIALECT = OpenAIChat()


def test_a_whole_answer_shows_the_transcript_as_text_and_the_sound_as_opaque() -> None:
    message = {"role": "assistant", "content": None, "audio": SOUND}
    found = list(DIALECT.response_segments({"choices": [{"index": 0, "message": message}]}))
    assert [(one.path[3:], one.text, one.format) for one in found] == [
        (("audio",), "", "opaque"),
        (("audio", "transcript"), "It is 18 degrees.", "text"),
    ]


def test_a_stream_shows_the_same_and_only_the_transcript_can_be_replaced() -> None:
    value = {"choices": [{"index": 0, "delta": {"audio": SOUND}, "finish_reason": None}]}
    data = orjson.dumps(value)
    event = DIALECT.make_event(orjson.loads(data), "delta")
    sound, said = event.deltas
    assert (sound.id, sound.text, sound.format) == ("choices.0.audio", "", "opaque")
    assert (said.id, said.text) == ("choices.0.audio.transcript", "It is 18 degrees.")
    with pytest.raises(ValueError, match="opaque"):
        event.replace(sound, "x")
    replaced = event.replace(said, "[removed]")
    body = orjson.loads(SseEvent(replaced.raw, replaced.raw[6:-2]).data or b"")
    assert body["choices"][0]["delta"]["audio"] == {**SOUND, "transcript": "[removed]"}
