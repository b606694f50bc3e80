"""Who belongs together keeps to one target, and everybody else spreads."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

A, B = "offering/a:m", "offering/b:m"

MANY = {f"p{n}": {} for n in range(6)}


async def test_a_user_keeps_to_one_target_and_users_spread(board: Any) -> None:
    table = await board(MANY, sticky="user")
    homes = {}
    for n in range(120):
        orders = {tuple(await table.route(user=f"user-{n}")) for _ in range(3)}
        [homes[n]] = orders
    counted = Counter(order[0] for order in homes.values())
    assert len(counted) == 6 and min(counted.values()) >= 6


async def test_a_target_that_goes_moves_only_its_own_users(board: Any) -> None:
    whole = await board(MANY, sticky="user")
    less = await board({name: said for name, said in MANY.items() if name != "p3"}, sticky="user")
    for n in range(60):
        before = await whole.route(user=f"user-{n}")
        assert await less.route(user=f"user-{n}") == [name for name in before if "p3" not in name]


async def test_stickiness_never_reaches_over_a_rank(board: Any) -> None:
    table = await board({"a": {"priority": 1}, "b": {"priority": 2}}, sticky="user")
    assert {(await table.route(user=f"user-{n}"))[0] for n in range(30)} == {A}


async def test_weights_are_shares_of_the_users_where_users_stick(board: Any) -> None:
    table = await board({"a": {}, "b": {}}, strategy="weighted", weights={A: 3, B: 1}, sticky="user")
    homes = [(await table.route(user=f"user-{n}"))[0] for n in range(400)]
    assert homes == [(await table.route(user=f"user-{n}"))[0] for n in range(400)]
    assert 260 < Counter(homes)[A] < 340


HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
MORE = [*HELLO, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and now?"}]
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
SAME: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("user", {"user": "u"}, {"user": "u", "messages": MORE}),
    ("user", {"safety_identifier": "u"}, {"user": "u"}),
    ("user", {"path": MESSAGES, "messages": HELLO[1:], "max_tokens": 5, "metadata": {"user_id": "u"}}, {"user": "u"}),
    ("user", {"headers": {"x-subject": "s"}}, {"headers": {"x-subject": "s"}, "messages": MORE}),
    ("tenant", {"headers": {"x-tenant": "t"}}, {"headers": {"x-tenant": "t"}, "messages": MORE}),
    ("header:X-Session", {"headers": {"x-session": "s"}}, {"headers": {"x-session": "s"}, "messages": MORE}),
    ("conversation", {"messages": HELLO}, {"messages": MORE}),
    ("conversation", {"messages": HELLO, "prompt_cache_key": "k"}, {"prompt_cache_key": "k"}),
    ("conversation", {"path": RESPONSES, "input": "a", "conversation": "c"}, {"path": RESPONSES, "input": "b", "conversation": {"id": "c"}}),
    ("conversation", {"path": RESPONSES, "input": "a", "instructions": "i"}, {"path": RESPONSES, "input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}], "instructions": "i"}),
]  # fmt: skip
APART: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("user", {"user": "u"}, {"user": "v"}),
    ("user", {"user": "u", "headers": {"x-tenant": "s"}}, {"user": "u", "headers": {"x-tenant": "t"}}),
    ("conversation", {"messages": HELLO}, {"messages": HELLO[1:]}),
    ("conversation", {"messages": HELLO}, {"messages": [*HELLO[:1], {"role": "user", "content": "hallo"}]}),
    (
        "conversation",
        {"messages": [{"role": "user", "content": "x" * 5000}]},
        {"messages": [{"role": "user", "content": "x" * 5001}]},
    ),
]


@pytest.mark.parametrize(("sticky", "one", "other"), SAME)
async def test_what_belongs_together_has_one_key(
    board: Any, sticky: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert await key_of(board, sticky, one) == await key_of(board, sticky, other) is not None


@pytest.mark.parametrize(("sticky", "one", "other"), APART)
async def test_what_does_not_belong_together_has_two_keys(
    board: Any, sticky: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert await key_of(board, sticky, one) != await key_of(board, sticky, other)


@pytest.mark.parametrize("odd", [None, 7, [], {}, "", [None], [[]]], ids=repr)
@pytest.mark.parametrize("key", ["user", "metadata", "conversation", "prompt_cache_key", "system"])
async def test_keys_of_a_wrong_type_are_as_good_as_none(board: Any, key: str, odd: Any) -> None:
    for sticky in ("user", "conversation"):
        assert await key_of(board, sticky, {key: odd}) == await key_of(board, sticky, {})


async def test_a_request_without_a_key_is_shared_out(board: Any) -> None:
    table = await board({"a": {}, "b": {}}, sticky="header:x-session")
    assert {(await table.route())[0] for _ in range(50)} == {A, B}


async def key_of(board: Any, sticky: str, request: dict[str, Any]) -> bytes | None:
    table = await board({"a": {}}, sticky=sticky)
    await table.route(**request)
    key: bytes | None = table.router.ranking._sticky(table.exchange)
    return key
