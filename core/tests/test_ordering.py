"""Order is data flow: what breaks a rule stops the start, and is told with a list that works."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmg import Component, ComponentConfig, Exchange
from lmg.component import Facts
from lmg.config import Envelope, When
from lmg.errors import OrderError
from lmg.ordering import Listed, check_order
from lmg.testing import Harness


def listed(name: str, *, mode: str = "enforce", when: When | None = None, **facts: Any) -> Listed:
    component = type(
        name,
        (Component,),
        {kind: {hook: tuple(f) for hook, f in given.items()} for kind, given in facts.items()},
    )
    return Listed(name, component, Envelope(mode=mode, when=when))  # type: ignore[arg-type]


AUTH = listed("auth", provides={"on_request": ["principal"]})
LIMIT = listed("limit", requires={"on_request": ["principal"]})


def test_a_requirer_above_its_provider_is_refused_with_a_list_that_works() -> None:
    with pytest.raises(OrderError) as caught:
        check_order([LIMIT, AUTH])
    text = str(caught.value)
    assert "its on_request reads 'principal', which 'auth' provides" in text
    assert text.index("the list as given") < text.index("- limit") < text.index("a list that works")
    assert text.rindex("- auth") < text.rindex("- limit")
    check_order([AUTH, LIMIT])


def test_a_missing_provider_is_named_with_a_hint() -> None:
    with pytest.raises(OrderError, match=r"'limit' requires the fact 'principal' in on_request.*auth_static"):
        check_order([LIMIT])


def test_reverse_hooks_are_checked_in_their_own_direction() -> None:
    cost = listed("cost", provides={"on_settle": ["cost"]})
    ledger = listed("ledger", requires={"on_settle": ["cost"]})
    check_order([ledger, cost])
    with pytest.raises(OrderError, match="'ledger' must stand above 'cost'"):
        check_order([cost, ledger])


def test_uses_orders_only_where_a_provider_is_listed() -> None:
    user = listed("user", uses={"on_request": ["risk"]})
    risk = listed("risk", provides={"on_request": ["risk"]})
    check_order([user])
    check_order([risk, user])
    with pytest.raises(OrderError):
        check_order([user, risk])


def test_a_fact_with_several_providers_is_complete_after_the_last() -> None:
    one, two = (listed(name, provides={"on_request": ["signals"]}) for name in ("one", "two"))
    score = listed("score", requires={"on_request": ["signals"]})
    check_order([one, two, score])
    with pytest.raises(OrderError):
        check_order([one, score, two])


@pytest.mark.parametrize("absent", [{"mode": "shadow"}, {"when": When(model=["gpt-*"])}])
def test_a_provider_that_may_be_absent_satisfies_no_unconditional_requires(absent: dict[str, Any]) -> None:
    with pytest.raises(OrderError, match="always requires"):
        check_order([listed("auth", provides={"on_request": ["principal"]}, **absent), LIMIT])


def test_a_component_that_is_off_provides_nothing() -> None:
    with pytest.raises(OrderError, match="nothing in the pipeline provides it"):
        check_order([listed("auth", mode="off", provides={"on_request": ["principal"]}), LIMIT])


def test_on_settle_may_require_only_facts_of_the_last_two_hooks() -> None:
    late = listed("late", requires={"on_settle": ["principal"]})
    with pytest.raises(OrderError, match="may require only facts of on_settle and on_end"):
        check_order([AUTH, late])
    check_order(
        [
            AUTH,
            listed("late", uses={"on_settle": ["principal"]}, requires={"on_settle": ["usage", "outcome"]}),
        ]
    )


def test_facts_of_the_way_down_are_there_on_the_way_up() -> None:
    check_order([listed("reader", requires={"on_response": ["principal"]}), AUTH])


def test_when_on_tenant_needs_a_principal_above_it() -> None:
    guard = listed("guard", when=When(tenant=["acme"]))
    with pytest.raises(OrderError, match="principal"):
        check_order([guard])
    check_order([AUTH, guard])
    with pytest.raises(OrderError):
        check_order([guard, AUTH])


def test_a_cycle_is_told_as_such() -> None:
    a = listed("a", provides={"on_request": ["x"]}, requires={"on_request": ["y"]})
    b = listed("b", provides={"on_request": ["y"]}, requires={"on_request": ["x"]})
    with pytest.raises(OrderError, match="no order satisfies all rules"):
        check_order([a, b])


@given(st.permutations(range(5)))
def test_the_suggested_list_always_works(order: list[int]) -> None:
    chain = [
        listed(
            f"c{n}", provides={"on_request": [f"f{n}"]}, requires={"on_request": [f"f{n - 1}"] if n else []}
        )
        for n in range(5)
    ]
    given_list = [chain[n] for n in order]
    try:
        check_order(given_list)
    except OrderError as error:
        names = [
            line.strip("- ")
            for line in str(error).split("a list that works:")[1].splitlines()
            if line.strip().startswith("-")
        ]
        check_order([next(item for item in chain if item.name == name) for name in names])
    else:
        assert order == sorted(order)


async def test_what_a_component_requires_may_depend_on_its_configuration() -> None:
    seen: list[bool] = []

    class Settings(ComponentConfig):
        tokens: bool = False

    class Limits(Component):
        Config = Settings

        @classmethod
        def required(cls, config: Any) -> Facts:
            return {"on_request": ("body",)} if config.tokens else {}

        def on_request(self, exchange: Exchange) -> None:
            seen.append(exchange.request is not None)

    for tokens in (False, True):
        async with Harness(
            {"pipeline": [{"limits": {"tokens": tokens}}]}, classes={"limits": Limits}
        ) as gateway:
            assert (await gateway.chat()).status == 200
    assert seen == [False, True]


def test_what_a_component_uses_may_depend_on_its_configuration() -> None:
    class Settings(ComponentConfig):
        late: bool = False

    class Policy(Component):
        Config = Settings

        @classmethod
        def used(cls, config: Any) -> Facts:
            return {"on_request": ("risk",)} if config.late else {}

        def on_request(self, exchange: Exchange) -> None:
            return None

    class Risk(Component):
        provides = {"on_request": ("risk",)}

        def on_request(self, exchange: Exchange) -> None:
            return None

    above = [
        Listed("policy", Policy, Envelope(), Settings(late=False)),
        Listed("risk", Risk, Envelope(), ComponentConfig()),
    ]
    check_order(above)
    with pytest.raises(OrderError, match="its on_request reads 'risk', which 'risk' provides"):
        check_order([Listed("policy", Policy, Envelope(), Settings(late=True)), above[1]])
