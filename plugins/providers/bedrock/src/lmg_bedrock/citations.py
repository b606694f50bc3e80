"""Citations, in words that clients know: Anthropic's for places in documents, address and title for pages of the web.

The API's own words are nobody's dialect, and the models that cite through it are mostly Claude.
Source: Amazon Bedrock API reference, "Citation" and "CitationLocation"; Claude API reference, "Citations".
"""

from __future__ import annotations

from typing import Any, Final

from lmg.jsontext import Json

__all__ = ["citation_of"]

# The place, its name with Anthropic, and the names of where it begins and ends.
_PLACES: Final = {
    "documentChar": ("char_location", "start_char_index", "end_char_index"),
    "documentPage": ("page_location", "start_page_number", "end_page_number"),
    "documentChunk": ("content_block_location", "start_block_index", "end_block_index"),
    "searchResultLocation": ("search_result_location", "start_block_index", "end_block_index"),
}


def citation_of(stated: Json) -> Json:
    """One citation; what stands at a place that is not known stays as the API wrote it."""
    location = stated.get("location") if type(stated) is dict else None
    if type(stated) is not dict or type(location) is not dict:
        return stated
    title = stated.get("title")
    web = location.get("web")
    if type(web) is dict:
        return {"url": web.get("url"), "title": title}
    for place, (kind, start, end) in _PLACES.items():
        at = location.get(place)
        if type(at) is dict:
            span = {start: at.get("start"), end: at.get("end")}
            return {"type": kind, "cited_text": _cited(stated), **_source(stated, at, kind), **span}
    return stated


def _source(stated: dict[str, Any], at: dict[str, Any], kind: str) -> dict[str, Any]:
    if kind == "search_result_location":
        return {
            "search_result_index": at.get("searchResultIndex"),
            "source": stated.get("source"),
            "title": stated.get("title"),
        }
    return {"document_index": at.get("documentIndex"), "document_title": stated.get("title")}


def _cited(stated: dict[str, Any]) -> str:
    pieces: Any = stated.get("sourceContent") or ()
    return "".join(str(piece.get("text") or "") for piece in pieces if type(piece) is dict)
