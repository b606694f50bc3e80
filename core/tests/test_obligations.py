"""What a policy binds an exchange to: carried out by somebody below, or refused; modes tightened, loosened where allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from lmg import Component, ComponentConfig, Deny, Exchange, Response, StreamEvent, StreamFilter
from lmg.testing import Harness

Bind = Callable[[Component, Exchange], None]


class Policy(Component):
    """Binds as the test says."""

    bind: ClassVar[list[Bind]] = []
    requires = {"on_request": ("body",)}

    def on_request(self, exchange: Exchange) -> None:
        for bind in self.bind:
            bind(self, exchange)


class HeadPolicy(Component):
    """The same, above the body."""

    def on_request(self, exchange: Exchange) -> None:
        for bind in Policy.bind:
            bind(self, exchange)


class Redacts(Component):
    carries = frozenset({"redact:email", "budget_class"})

    def on_settle(self, exchange: Exchange) -> None:
        seen.append(dict(exchange.obligations))


class GuardConfig(ComponentConfig):
    answer: bool = False


class Guard(Component):
    """Refuses every request, or every answer."""

    Config = GuardConfig
    requires = {"on_request": ("body",)}

    def on_request(self, exchange: Exchange) -> Deny | None:
        return None if self.config.answer else Deny(403, "guarded")

    def on_response(self, exchange: Exchange, response: Response) -> Deny | None:
        return Deny(403, "answer_guarded") if self.config.answer else None

    def on_stream(self, exchange: Exchange) -> StreamFilter | None:
        return _Refusing() if self.config.answer else None


class _Refusing(StreamFilter):
    def feed(self, event: StreamEvent) -> Any:
        return Deny(403, "answer_guarded")


class Provides(Component):
    provides = {"on_request": ("marked",)}

    def on_request(self, exchange: Exchange) -> None:
        exchange.set_fact("marked", 1)


class Requires(Component):
    requires = {"on_request": ("marked",)}

    def on_request(self, exchange: Exchange) -> None:
        return None


seen: list[dict[str, object]] = []
CLASSES: dict[str, type[Any]] = {
    "policy": Policy, "head_policy": HeadPolicy, "redacts": Redacts, "guard": Guard, "gives": Provides, "needs": Requires,
}  # fmt: skip


async def ask(pipeline: list[Any], *bind: Bind, stream: bool = False) -> tuple[int, str, Exchange]:
    Policy.bind = list(bind)
    seen.clear()
    async with Harness({"pipeline": pipeline}, classes=CLASSES) as gateway:
        answer = await gateway.chat(stream=stream)
        exchange = await gateway.ended()
        return answer.status, exchange.code, exchange


def email(by: Component, exchange: Exchange) -> None:
    exchange.oblige(by, "redact:email")


async def test_an_obligation_that_somebody_below_carries_out_binds_it() -> None:
    status, _, exchange = await ask(
        ["policy", "redacts"], email, lambda by, exchange: exchange.oblige(by, "budget_class", "gold")
    )
    assert status == 200
    assert seen == [{"redact:email": True, "budget_class": "gold"}]
    assert exchange.bounds.redact == {"email"}


@pytest.mark.parametrize(
    "pipeline",
    [
        ["policy"],
        ["redacts", "policy"],
        ["policy", {"redacts": {"mode": "shadow"}}],
        ["policy", {"redacts": {"mode": "off"}}],
        ["policy", {"redacts": {"when": {"model": ["other-*"]}}}],
    ],
    ids=["nobody", "above", "in shadow", "off", "elsewhere"],
)
async def test_an_obligation_that_nobody_below_can_carry_out_is_a_refusal(pipeline: list[Any]) -> None:
    assert (await ask(pipeline, email))[:2] == (403, "obligation_unmet")


async def test_a_policy_in_shadow_binds_nothing_and_refuses_nothing() -> None:
    status, _, exchange = await ask([{"policy": {"mode": "shadow"}}, "redacts"], email)
    assert (status, dict(exchange.obligations), exchange.bounds.redact) == (200, {}, frozenset())
    status, _, exchange = await ask([{"policy": {"mode": "shadow"}}], email)
    assert status == 200
    assert exchange.shadowed == [("policy", "on_request", "Deny(obligation_unmet)")]


def mode(name: str, to: Any) -> Bind:
    return lambda by, exchange: exchange.set_mode(by, name, to)


@pytest.mark.parametrize("policy", ["policy", "head_policy"])
async def test_a_guard_in_shadow_is_tightened_for_one_exchange(policy: str) -> None:
    listed = [policy, {"guard": {"mode": "shadow"}}]
    assert (await ask(listed))[0] == 200
    assert (await ask(listed, mode("guard", "enforce")))[:2] == (403, "guarded")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_guard_of_answers_is_tightened_for_one_exchange(stream: bool) -> None:
    listed = ["policy", {"guard": {"mode": "shadow", "answer": True}}]
    assert (await ask(listed, stream=stream))[0] == 200
    assert (await ask(listed, mode("guard", "enforce"), stream=stream))[:2] == (403, "answer_guarded")


async def test_a_guard_is_loosened_only_as_far_as_the_configuration_permits() -> None:
    assert (await ask(["policy", "guard"], mode("guard", "off")))[:2] == (403, "obligation_unmet")
    shadow: list[Any] = ["policy", {"guard": {"may_loosen": "shadow"}}]
    assert (await ask(shadow, mode("guard", "off")))[:2] == (403, "obligation_unmet")
    status, _, exchange = await ask(shadow, mode("guard", "shadow"))
    assert (status, exchange.shadowed) == (200, [("guard", "on_request", "Deny(guarded)")])
    off: list[Any] = ["head_policy", {"guard": {"may_loosen": "off"}}]
    status, _, exchange = await ask(off, mode("guard", "off"))
    assert (status, exchange.shadowed) == (200, [])


async def test_a_guard_that_is_not_below_cannot_be_set() -> None:
    assert (await ask(["guard", "policy"]))[:2] == (403, "guarded")
    listed: list[Any] = [{"guard": {"mode": "shadow"}}, "policy"]
    assert (await ask(listed, mode("guard", "enforce")))[:2] == (403, "obligation_unmet")
    assert (await ask(["policy"], mode("nothing", "enforce")))[:2] == (403, "obligation_unmet")
    listed = ["policy", {"guard": {"mode": "off"}}]
    assert (await ask(listed, mode("guard", "enforce")))[:2] == (403, "obligation_unmet")


async def test_a_component_whose_fact_another_requires_is_not_loosened() -> None:
    listed: list[Any] = ["head_policy", {"gives": {"may_loosen": "off"}}, "needs"]
    assert (await ask(listed))[0] == 200
    assert (await ask(listed, mode("gives", "off")))[:2] == (403, "obligation_unmet")


async def test_the_next_exchange_is_not_bound() -> None:
    Policy.bind = [mode("guard", "enforce")]
    async with Harness({"pipeline": ["policy", {"guard": {"mode": "shadow"}}]}, classes=CLASSES) as gateway:
        assert (await gateway.chat()).status == 403
        Policy.bind = []
        assert (await gateway.chat()).status == 200


async def test_two_guards_are_set_and_the_plans_are_kept() -> None:
    listed: list[Any] = [
        "policy", {"guard/a": {"mode": "shadow", "answer": True}}, {"guard/b": {"mode": "shadow", "answer": True}},
    ]  # fmt: skip
    Policy.bind = [mode("guard/a", "enforce"), mode("guard/b", "enforce")]
    async with Harness({"pipeline": listed}, classes=CLASSES) as gateway:
        for _ in range(3):
            assert (await gateway.chat()).status == 403
        pipeline = gateway.process.gateway.pipeline
        first = await gateway.ended()
        assert (await gateway.ended(3)).plan is first.plan
        assert pipeline.plan is not first.plan


async def test_tags_reach_the_receipt_and_are_bounded() -> None:
    def tags(by: Component, exchange: Exchange) -> None:
        exchange.tag("department", "legal")
        for name, value in (("n" * 65, ""), ("v", "v" * 257)):
            with pytest.raises(ValueError, match="at most"):
                exchange.tag(name, value)
        for n in range(31):
            exchange.tag(f"t{n}", "")
        with pytest.raises(ValueError, match="32"):
            exchange.tag("one-more", "")
        exchange.tag("department", "sales")

    _, _, exchange = await ask(["policy"], tags)
    assert exchange.receipt is not None
    assert exchange.receipt.tags["department"] == "sales"
    assert len(exchange.receipt.tags) == 32
