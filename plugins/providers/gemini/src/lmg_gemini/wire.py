"""The wire of the Gemini API: ``generateContent`` and ``streamGenerateContent``.

Source: Gemini API reference, "Generating content".
"""

from __future__ import annotations

from typing import Any

from lmg.dialects.form import Chat, Completion, completion_of
from lmg.dialects.wire import EventDecoder, Fault, Wire, broken, support
from lmg.jsontext import Json

from .events import GenerateDecoder
from .faults import fault
from .request import encode_request

__all__ = ["GeminiWire"]


class GeminiWire(Wire):
    """The model's name and whether to stream stand in the path of a call, not in its body."""

    name = "gemini.generate"
    support = support(
        carried="""system developer tools tools.strict tool_choice.none tool_choice.required tool_choice.named
            tool_results.images tool_results.error json_object json_schema image.url image.base64 document.url document.base64
            document.text audio reasoning reasoning.summary reasoning.history refusal max_output_tokens temperature top_p top_k
            frequency_penalty presence_penalty logprobs stop seed n service_tier store""",
        ignored="""names parallel_tool_calls image.detail document.citations min_p cache_control prompt_cache_key metadata user
            verbosity truncation prediction include extra""",
        refused="""tools.hosted tools.custom image.file document.file audio.out prefill logit_bias conversation background
            prompt_template""",
    )

    def encode_request(self, chat: Chat) -> dict[str, Any]:
        return encode_request(chat)

    def decode_answer(self, value: Json) -> Completion:
        # A whole answer is a stream of one event.
        decoder = GenerateDecoder()
        events = list(decoder.take(value))
        ending = decoder.finish()
        if not ending:
            raise broken("an answer without candidates, or with one that is not finished")
        return completion_of([*events, *ending])

    def decoder(self) -> EventDecoder:
        return GenerateDecoder()

    def fault(self, status: int, body: bytes) -> Fault:
        return fault(status, body)
