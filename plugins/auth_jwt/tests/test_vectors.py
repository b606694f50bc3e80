"""Public vectors: the examples of the RFCs, and Project Wycheproof's JSON web signatures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmg_auth_jwt.keys import KeyFault, VerificationKey, key_of_jwk, key_of_secret
from lmg_auth_jwt.tokens import TokenFault, read_compact, verified_by

DATA = Path(__file__).parent / "data"
EXAMPLES = json.loads((DATA / "rfc_examples.json").read_text())
WYCHEPROOF = json.loads((DATA / "json_web_signature_test.json").read_text())

STRICTER = {
    346: "the key is bound to PS256, the token says PS384",
    350: "the key is bound to PS256, the token says PS384",
    347: "the key is bound to ES521, which no specification has",
    351: "the key is bound to ES521, which no specification has",
    372: "a character that base64url does not have, in the header",
    373: "a character that base64url does not have, in the payload",
}
"""Vectors that Wycheproof calls valid and that are refused here, and why."""

SAME_AS_A_VALID_ONE = {367: 357, 370: 357}
"""Vectors about padding that have lost theirs: byte for byte one that is valid, so they are judged like it."""


def key_of(jwk: dict[str, Any], algorithm: str | None = None) -> VerificationKey:
    if jwk["kty"] == "oct":
        return key_of_secret(jwk["k"], algorithm or jwk["alg"], jwk.get("kid"), "base64url")
    return key_of_jwk(jwk, algorithm)


def verifies(token: str, key: VerificationKey) -> bool:
    try:
        compact = read_compact(token, 16_384)
        if compact.kid is not None and key.kid is not None and compact.kid != key.kid:
            return False
        return verified_by(compact, [key]) is key
    except TokenFault:
        return False


@pytest.mark.parametrize("example", EXAMPLES, ids=[example["source"] for example in EXAMPLES])
def test_an_example_of_an_rfc_verifies_and_a_changed_one_does_not(example: dict[str, Any]) -> None:
    key = key_of(example["key"], example["algorithm"])
    token = example["token"]
    assert verifies(token, key)
    first, second, third = token.split(".")
    for changed in (
        f"{first}.{second}.{'A' if third[0] != 'A' else 'B'}{third[1:]}",
        f"{first}.{'A' if second[0] != 'A' else 'B'}{second[1:]}.{third}",
        f"{first}.{second}.",
        f"{first}.{second}",
    ):
        assert not verifies(changed, key)


def test_the_unsecured_example_is_refused() -> None:
    """RFC 7515, appendix A.5."""
    payload = EXAMPLES[0]["token"].split(".")[1]
    assert not any(
        verifies(f"eyJhbGciOiJub25lIn0.{payload}.", key_of(e["key"], e["algorithm"])) for e in EXAMPLES
    )


def test_an_example_of_one_key_is_refused_by_all_others() -> None:
    for one in EXAMPLES:
        for other in EXAMPLES:
            key = key_of(other["key"], other["algorithm"])
            assert verifies(one["token"], key) == (one is other)


def vectors() -> Iterator[Any]:
    for group in WYCHEPROOF["testGroups"]:
        for test in group["tests"]:
            name = f"{test['tcId']}-{group['comment']}-{test['comment']}"
            yield pytest.param(group.get("public") or group["private"], test, id=name)


@pytest.mark.parametrize(("jwk", "test"), list(vectors()))
def test_wycheproof(jwk: dict[str, Any], test: dict[str, Any]) -> None:
    try:
        key = key_of(jwk)
    except KeyFault:
        assert test["result"] == "invalid" or test["tcId"] in STRICTER
        return
    number = test["tcId"]
    expected = number in SAME_AS_A_VALID_ONE or (test["result"] == "valid" and number not in STRICTER)
    assert verifies(test["jws"], key) == expected


def test_the_vectors_are_all_there() -> None:
    tokens = {test["tcId"]: test["jws"] for group in WYCHEPROOF["testGroups"] for test in group["tests"]}
    assert len(tokens) == WYCHEPROOF["numberOfTests"] == 401
    assert all(tokens[number] == tokens[same] for number, same in SAME_AS_A_VALID_ONE.items())
