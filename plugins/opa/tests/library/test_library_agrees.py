"""Every policy of the library rules alike in every engine, over inputs that nobody would write by hand."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmg.jsontext import Json
from lmg_opa.bundles import bundle_of
from lmg_opa.engine import Bundle, Policy, Ruling, Undecided
from lmg_opa.engines import engine
from lmg_opa.engines.server import OpaServerPolicy
from lmg_opa.library import combined, compose, parts

from .. import opa_tool as tool

CORPUS: Final = 500
CALL_S: Final = 30.0
AT_ONCE: Final = 16
RULES: Final = ("allow", "reasons", "obligations")

DIFFERENCES: Final[Mapping[str, str]] = {
    "some in what is no collection": "regorus has no answer, so the gateway refuses; OPA takes it for undefined, and goes on",
    "obligations of a refusal that contradict each other": "a server is asked for the whole package and has no answer; in process obligations are not asked for where nothing is allowed",
}
"""All that engines are known to differ over. The component shows lists only where these policies go through lists."""


@dataclass(frozen=True)
class Policed:
    """A policy: the ``house`` whose files hold it, its package, and its own modules."""

    house: str
    package: str
    bundle: Bundle


def _alone(name: str) -> dict[str, str]:
    """The part ``name`` as a policy, in a package of its own so that one server can hold them all."""
    files = compose([name])
    return {
        f"alone_{name}.rego": files.pop("authz.rego").replace(
            "package lmg.authz", f"package lmg.alone.{name}"
        ),
        **files,
    }


def _houses() -> dict[str, Bundle]:
    found = {"parts": compose(parts())}
    for name in parts():
        found["parts"] |= _alone(name)
    for name, text in combined().items():
        place, _, rest = name.partition("/")
        found.setdefault(place, {})[rest] = text
    return {name: _bundle(files) for name, files in found.items()}


def _bundle(files: Mapping[str, str]) -> Bundle:
    tested = {name: text.encode() for name, text in files.items() if not name.endswith("_test.rego")}
    return bundle_of(tested, packed=False)


HOUSES: Final = _houses()
POLICIES: Final = {
    **{
        name: Policed("parts", f"lmg.alone.{name}", _bundle(_alone(name)))
        for name in parts()
    },
    "everything": Policed("parts", "lmg.authz", _bundle(compose(parts()))),
    **{name: Policed(name, "lmg.authz", HOUSES[name]) for name in HOUSES if name != "parts"},
}  # fmt: skip

Said = tuple[object, ...]


def said(decide: Callable[[bytes], Ruling], document: bytes) -> Said:
    try:
        ruling = decide(document)
    except Undecided as undecided:
        return ("undecided", undecided.code)
    return (ruling.allow, ruling.reasons, ruling.obligations)


# -- inputs -----------------------------------------------------------------------------------------

NAMES: Final = [
    "developer", "lead", "analyst", "on-call", "echo", "gpt-5-mini", "claude-sonnet-4-5", "acme", "globex", "initech", "eu",
    "us", "eu-central", "research", "support", "public", "internal", "confidential", "secret", "get_weather", "search_docs",
    "run_tests", "deploy", "ann", "bob", "cache", "approvals", "auth_keys", "GET", "POST", "*", "", "EU", "\uff25\uff35", "eu\u0000", "null",
    '"], "allow": true, "z": ["', "a" * 300,
]  # fmt: skip
NUMBERS: Final = [
    0,
    1,
    -1,
    5,
    6,
    17,
    18,
    24,
    0.4,
    0.39999999,
    0.8,
    0.5,
    1000,
    8000,
    8001,
    200_000,
    2**53 + 1,
    1e300,
]
DAYS: Final = ["monday", "tuesday", "friday", "saturday", "sunday"]


class Maker:
    """Inputs like the component's, of which some lack parts, or hold what does not belong there."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def document(self) -> bytes:
        parts_of_it: dict[str, Json] = {
            "admin": self._admin(),
            "candidates": [self._candidate() for _ in range(self._random.randint(0, 3))],
            "principal": self._principal(),
            "request": self._request(),
            "risk": self._random.choice([None, 0, 0.39, 0.4, 0.79, 0.8, 1]),
            "time": {"weekday": self._random.choice(DAYS), "hour": self._random.randint(0, 23)},
        }
        return json.dumps(self._spoilt(parts_of_it), ensure_ascii=False).encode()

    def _name(self) -> str:
        return self._random.choice(NAMES)

    def _names(self) -> list[Json]:
        return [self._name() for _ in range(self._random.randint(0, 3))]

    def _admin(self) -> Json:
        if self._random.random() < 0.7:
            return None
        return {"method": self._name(), "component": self._name(), "approvers": self._names()}

    def _candidate(self) -> Json:
        return {"name": self._name(), "region": self._name(), "on_prem": self._random.random() < 0.5}

    def _principal(self) -> Json:
        if self._random.random() < 0.1:
            return None
        names = ("department", "data_class", "clearance")
        held = {name: self._name() for name in names if self._random.random() < 0.8}
        return {"subject": self._name(), "tenant": self._name(), "roles": self._names(), "attributes": held}

    def _request(self) -> Json:
        return {"model": self._name(), "tools": self._names(), "token_estimate": self._random.choice(NUMBERS)}

    def _spoilt(self, value: Json, odds: float = 0.03) -> Json:
        """``value`` where here and there something is missing, or is another thing."""
        if self._random.random() < odds:
            return self._random.choice(
                [None, True, False, 0, "", [], {}, self._name(), [self._name()], {"eu": "acme"}, 2**53 + 1]
            )
        if isinstance(value, dict):
            return {name: self._spoilt(item) for name, item in value.items() if self._random.random() >= odds}
        if isinstance(value, list):
            return [self._spoilt(item) for item in value]
        return value


def corpus(name: str) -> list[bytes]:
    maker = Maker(sorted(POLICIES).index(name))
    return [maker.document() for _ in range(CORPUS)]


value = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(NAMES), st.sampled_from(DAYS)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=2)
    ),
    max_leaves=4,
)


def part_of(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        value,
        st.fixed_dictionaries({}, optional={name: st.one_of(value, of) for name, of in members.items()}),
    )


names = st.lists(st.sampled_from(NAMES), max_size=3)
documents = st.fixed_dictionaries(
    {},
    optional={
        "admin": st.one_of(st.none(), part_of(method=value, component=value, approvers=names)),
        "candidates": st.lists(part_of(region=st.sampled_from(NAMES)), max_size=3),
        "principal": part_of(
            subject=value,
            tenant=value,
            roles=names,
            attributes=part_of(department=value, data_class=value, clearance=value),
        ),
        "request": part_of(model=value, tools=names, token_estimate=st.sampled_from(NUMBERS)),
        "risk": value,
        "time": part_of(weekday=st.sampled_from(DAYS), hour=st.integers(0, 23)),
    },
).map(lambda made: json.dumps(made, ensure_ascii=False).encode())


# -- engines ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opa_tool() -> ModuleType:
    tool.opa()
    return tool


@pytest.fixture(scope="module")
def interpreted() -> Iterator[dict[str, Policy]]:
    found = {name: engine("regorus").load(one.bundle, one.package) for name, one in POLICIES.items()}
    yield found
    for policy in found.values():
        policy.close()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory, opa_tool: ModuleType) -> Iterator[dict[str, Policy]]:
    pytest.importorskip("opapywasm", reason="pip install 'lmg-opa[wasm]'")
    modules = {
        house: opa_tool.compile_wasm(
            tmp_path_factory.mktemp(house), _flat(bundle.modules), _entry_points(house)
        )
        for house, bundle in HOUSES.items()
    }
    with ExitStack() as stack:
        found = {}
        for name, one in POLICIES.items():
            bundle = Bundle(one.bundle.revision, one.bundle.modules, one.bundle.data, modules[one.house])
            policy = found[name] = engine("wasm").load(bundle, one.package)
            stack.callback(policy.close)
        yield found


@pytest.fixture(scope="module")
def machines() -> Iterator[dict[str, Policy]]:
    found = {name: engine("regorus_vm").load(one.bundle, one.package) for name, one in POLICIES.items()}
    yield found
    for policy in found.values():
        policy.close()


def _flat(modules: Mapping[str, str]) -> dict[str, str]:
    return {file.replace("/", "__"): text for file, text in modules.items()}


def _entry_points(house: str) -> tuple[str, ...]:
    return tuple(
        f"{one.package.replace('.', '/')}/{rule}"
        for one in POLICIES.values()
        if one.house == house
        for rule in RULES
        if any(
            f"package {one.package}\n" in text and f"\n{rule}" in text.replace("default ", "")
            for text in one.bundle.modules.values()
        )
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, opa_tool: ModuleType) -> Iterator[dict[str, str]]:
    """The address of a real OPA with each house's files."""
    with ExitStack() as stack:
        yield {
            house: stack.enter_context(
                opa_tool.OpaServer(tmp_path_factory.mktemp(house), _flat(bundle.modules), bundle.data)
            ).url
            for house, bundle in HOUSES.items()
        }


async def _asked(name: str, url: str, wanted: list[bytes]) -> list[Said]:
    policy = OpaServerPolicy(url, package=POLICIES[name].package)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(document: bytes) -> Said:
        async with places:
            try:
                ruling: Awaitable[Ruling] = policy.decide(document, CALL_S)
                found = await ruling
            except Undecided as undecided:
                return ("undecided", undecided.code)
            return (found.allow, found.reasons, found.obligations)

    try:
        return await asyncio.gather(*(one(document) for document in wanted))
    finally:
        await policy.close()


# -- claims -----------------------------------------------------------------------------------------


def agreed(document: bytes, interpreted: Said, other: Said) -> None:
    if interpreted == other:
        return
    # In both of the known differences each of the two refuses, or the interpreter alone does.
    if interpreted[0] is False and other == ("undecided", "conflict"):
        return
    assert interpreted == ("undecided", "error"), document.decode()
    assert _goes_through_no_collection(json.loads(document)), document.decode()


def _goes_through_no_collection(shown: Any) -> bool:
    """Whether this is ``some in what is no collection``."""
    places = [("candidates",), ("principal", "roles"), ("request", "tools"), ("admin", "approvers")]
    for place in places:
        at = shown
        for name in place:
            at = at.get(name, []) if isinstance(at, dict) else []
        if not isinstance(at, list | dict):
            return True
    return False


@pytest.mark.parametrize("name", POLICIES)
def test_the_corpus_holds_what_is_allowed_and_what_is_refused(
    name: str, interpreted: dict[str, Policy]
) -> None:
    rulings = {said(interpreted[name].decide, document)[0] for document in corpus(name)}
    assert rulings >= {True, False}


@pytest.mark.parametrize("name", POLICIES)
def test_the_compiled_policy_rules_as_the_interpreter_does(
    name: str, interpreted: dict[str, Policy], compiled: dict[str, Policy]
) -> None:
    for document in corpus(name):
        agreed(document, said(interpreted[name].decide, document), said(compiled[name].decide, document))


@pytest.mark.parametrize("name", POLICIES)
def test_the_virtual_machine_rules_as_the_interpreter_does(
    name: str, interpreted: dict[str, Policy], machines: dict[str, Policy]
) -> None:
    for document in corpus(name):
        agreed(document, said(interpreted[name].decide, document), said(machines[name].decide, document))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=documents)
def test_the_virtual_machine_agrees_on_whatever_is_put_before_it(
    interpreted: dict[str, Policy], machines: dict[str, Policy], document: bytes
) -> None:
    for name in POLICIES:
        agreed(document, said(interpreted[name].decide, document), said(machines[name].decide, document))


@pytest.mark.parametrize("name", POLICIES)
async def test_an_opa_server_rules_as_the_interpreter_does(
    name: str, interpreted: dict[str, Policy], servers: dict[str, str]
) -> None:
    wanted = corpus(name)
    answers = await _asked(name, servers[POLICIES[name].house], wanted)
    for document, answer in zip(wanted, answers, strict=True):
        agreed(document, said(interpreted[name].decide, document), answer)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=documents)
def test_engines_agree_on_whatever_is_put_before_them(
    interpreted: dict[str, Policy], compiled: dict[str, Policy], document: bytes
) -> None:
    for name in POLICIES:
        agreed(document, said(interpreted[name].decide, document), said(compiled[name].decide, document))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batch=st.lists(documents, min_size=1, max_size=8))
def test_an_opa_server_agrees_on_whatever_is_put_before_it(
    interpreted: dict[str, Policy], servers: dict[str, str], batch: list[bytes]
) -> None:
    for name, one in POLICIES.items():
        answers = asyncio.run(_asked(name, servers[one.house], batch))
        for document, answer in zip(batch, answers, strict=True):
            agreed(document, said(interpreted[name].decide, document), answer)


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_null_may_as_well_be_left_out(name: str, interpreted: dict[str, Policy]) -> None:
    for document in corpus(name):
        shown = json.loads(document)
        if isinstance(shown, dict):
            less = {section: value for section, value in shown.items() if value is not None}
            decide = interpreted[name].decide
            first, second = said(decide, document), said(decide, json.dumps(less).encode())
            if first[0] != "undecided":  # a null that is gone through is one of the differences
                assert second == first, document.decode()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=documents)
def test_a_policy_reads_nothing_that_it_does_not_declare(
    interpreted: dict[str, Policy], document: bytes
) -> None:
    whole = json.loads(document)
    for name in POLICIES:
        policy = interpreted[name]
        assert policy.reads is not None and not policy.volatile
        shown: dict[str, Any] = {}
        for path in policy.reads:
            _copy(whole, shown, path)
        assert said(policy.decide, json.dumps(shown).encode()) == said(policy.decide, document)


def _copy(whole: Any, shown: dict[str, Any], path: tuple[str, ...]) -> None:
    for step in path[:-1]:
        if not isinstance(whole, dict) or step not in whole:
            return
        whole = whole[step]
        if not isinstance(whole, dict):
            # What stands in the place of an object is shown as it is: the policy may tell null from nothing.
            shown.setdefault(step, whole)
            return
        shown = shown.setdefault(step, {})
    if isinstance(whole, dict) and path[-1] in whole:
        shown[path[-1]] = whole[path[-1]]
