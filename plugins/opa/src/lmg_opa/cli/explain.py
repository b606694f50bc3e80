"""Show why a policy says what it says: every rule that has a part in it, what it is, and where one that is not true stopped.

With --config the input is the one that the component builds for the request: the list is walked down to it, and nothing
is recorded, reserved or called.
"""

from __future__ import annotations

import asyncio
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from lmg import ConfigError
from lmg.cli.output import console, print_json, table
from lmg.cli.source import read_blueprint
from lmg.dialects.registry import DIALECTS
from lmg.dryrun import DryRun
from lmg.exchange import Exchange, Head
from lmg.jsontext import Json, strict_loads

from ..engine import Bundle, PolicyFault
from ..plugin import Opa
from .evaluate import ask, show_ruling
from .reading import (
    PACKAGE,
    add_json_argument,
    add_policy_argument,
    compiled,
    plain,
    read_bundle,
    read_document,
)
from .tracer import UNDEFINED, Answer, Definition, Lines, Tracer, definitions

__all__ = ["HELP", "arguments", "explained", "run"]

HELP = "show why a policy says what it says"

RULES: Final = ("allow", "reasons", "obligations")


def arguments(parser: ArgumentParser) -> None:
    """`lmg policy explain`'s options: a policy and an input, or a configuration and a request."""
    add_policy_argument(parser, required=False)
    parser.add_argument("--input", "-i", metavar="FILE", help="the input, as JSON; - is stdin")
    parser.add_argument(
        "--config", "-c", type=Path, metavar="FILE", help="in the place of --input: a mesh.yaml that lists the policy"
    )  # fmt: skip
    parser.add_argument(
        "request", nargs="?", metavar="REQUEST.json", help="with --config: the request's body"
    )
    parser.add_argument(
        "--component",
        metavar="NAME",
        help="with --config: which one, as in opa/access (default: the only one)",
    )
    parser.add_argument(
        "--key-env", metavar="NAME", help="with --config: the environment variable with the caller's key"
    )
    parser.add_argument(
        "--path", default="/v1/chat/completions", help="with --config: where the request goes (default: /v1/chat/completions)"
    )  # fmt: skip
    add_json_argument(parser)


def run(options: Namespace) -> int:
    """0 where the policy answered, whatever it said; 1 where it did not."""
    if (options.input is None) == (options.config is None):
        raise ConfigError("give --policy and --input, or --config and a request")
    if options.input is not None:
        if options.policy is None:
            raise ConfigError("--input needs --policy")
        document, bundle, package = (
            read_document(options.input)[0],
            read_bundle(options.policy),
            options.package,
        )
    else:
        document, opa = _as_the_component(options)
        path = options.policy or opa.config.bundle
        if path is None:
            raise ConfigError(
                f"the policy of '{opa.name}' is not on this machine", hint="name a copy of it with --policy"
            )
        bundle, package = read_bundle(path), opa.config.package
        if options.package != PACKAGE:
            package = options.package
    policy = compiled(bundle, options.engine, package)
    try:
        ruling = ask(policy, document)
    finally:
        policy.close()
    found = {"input": strict_loads(document), "ruling": ruling, "rules": explained(bundle, package, document)}
    if options.json:
        print_json(found)
    else:
        _show(found)
    return 0 if ruling["error"] is None else 1


def explained(bundle: Bundle, package: str, document: bytes) -> list[dict[str, Any]]:
    """Every rule that ``package``'s decision depends on, and what it is for ``document``.

    ``stopped`` tells for a rule that is false or undefined how far each of its bodies came.

    Raises:
        ConfigError: a module does not parse.
    """
    untested = {file: text for file, text in bundle.modules.items() if not file.endswith("_test.rego")}
    try:
        tracer = Tracer(Bundle(bundle.revision, untested, bundle.data))
    except PolicyFault as error:
        raise ConfigError(str(error)) from error
    tracer.show(document)
    found: list[dict[str, Any]] = []
    for path, places in _reachable(tracer, package).items():
        if any(place.is_function for place in places):
            continue  # it has no value without its arguments
        answer = tracer.ask(path)
        first = next((place for place in places if not place.is_default), places[0])
        unmet = answer.error or answer.value is UNDEFINED or answer.value is False
        found.append(
            {
                "rule": path,
                "value": None if answer.value is UNDEFINED else answer.value,
                "defined": answer.value is not UNDEFINED,
                "error": answer.error or None,
                "file": first.module.file,
                "line": first.start,
                "stopped": list(_stops(places, answer)) if unmet else [],
            }
        )
    return found


def _reachable(tracer: Tracer, package: str) -> dict[str, list[Definition]]:
    """The definitions of every rule that the decision reads, the decision's own first."""
    by_path: dict[str, list[Definition]] = {}
    for module in tracer.modules:
        for definition in definitions(module):
            by_path.setdefault(definition.path, []).append(definition)
    work = [f"data.{package}.{rule}" for rule in RULES]
    seen: dict[str, list[Definition]] = {}
    while work:
        path = work.pop(0)
        if path in seen or path not in by_path:
            continue
        seen[path] = by_path[path]
        for place in by_path[path]:
            work += _named(place, by_path)
    return seen


def _named(place: Definition, known: Iterable[str]) -> list[str]:
    """The rules that a definition refers to; a reference to a whole package is one to all of its rules."""
    wanted = {".".join(ref.path) for ref in place.rule.refs if ref.path[:1] == ("data",)}
    return [
        path
        for path in known
        if any(path == ref or path.startswith(f"{ref}.") or ref.startswith(f"{path}.") for ref in wanted)
    ]


def _stops(places: list[Definition], answer: Answer) -> Iterator[dict[str, Any]]:
    for place in places:
        reached = place.within(answer.lines.get(place.module.file, Lines()).covered)
        if reached and not place.is_default:
            yield {"file": place.module.file, "line": reached[-1], "source": place.source(reached[-1])}


# -- the component's own input ----------------------------------------------------------------------


def _as_the_component(options: Namespace) -> tuple[bytes, Opa]:
    dialect = DIALECTS.get(options.path.encode())
    if dialect is None:
        raise ConfigError(f"{options.path} is no path of a model")
    if options.request is None:
        raise ConfigError("--config needs a request's body")
    body, _ = read_document(options.request)
    blueprint, _ = read_blueprint(options.config)
    head = Head("POST", options.path, _headers(options.key_env), "127.0.0.1")

    async def walk() -> tuple[bytes, Opa]:
        async with DryRun(blueprint) as dry:
            opa = _chosen(dry, options.component)
            documents: list[bytes] = []
            _watch(dry, opa, documents)
            await dry.walk(dialect, head, body)
            if not documents:
                why = f": {dry.refusal.code}: {dry.refusal.reason}" if dry.refusal is not None else ""
                raise ConfigError(f"the request does not get as far as '{opa.name}'{why}")
            return documents[0], opa

    return asyncio.run(walk())


def _headers(key_env: str | None) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", b"application/json")]
    if key_env is not None:
        key = os.environ.get(key_env, "").strip()
        if not key:
            raise ConfigError(f"the environment has no {key_env}", path="--key-env")
        headers.append((b"authorization", b"Bearer " + key.encode()))
    return headers


def _chosen(dry: DryRun, name: str | None) -> Opa:
    there = [component for _, component in dry.pipeline.listed if isinstance(component, Opa)]
    found = [component for component in there if name in (None, component.name)]
    if len(found) != 1:
        names = ", ".join(component.name for component in there) or "none"
        raise ConfigError("say which policy with --component", hint=f"listed: {names}")
    return found[0]


def _watch(dry: DryRun, opa: Opa, documents: list[bytes]) -> None:
    """Keeps what ``opa`` is shown; what it then says is its own."""
    step = next(step for step in dry.pipeline.plan.hooks["on_request"] if step.name == opa.name)
    decide = step.fn

    def shown(exchange: Exchange) -> Any:
        documents.append(opa.versions.current.plan.encode(exchange))
        return decide(exchange)

    step.fn = shown


# -- what is printed ------------------------------------------------------------------------------


def _show(found: dict[str, Any]) -> None:
    out = console()
    out.print(f"input: {plain(orjson.dumps(found['input']).decode(), 1000)}\n")
    rules = table("Rules", "rule", "is", "where")
    for one in found["rules"]:
        package, _, name = one["rule"].removeprefix("data.").rpartition(".")
        rules.add_row(f"{package}.{name}", _value(one), f"{one['file']}:{one['line']}", style=_style(one))
        for stop in one["stopped"]:
            rules.add_row(
                "", "no further than", f"{stop['file']}:{stop['line']}: {plain(stop['source'])}", style="dim"
            )
    out.print(rules)
    show_ruling(found["ruling"])


def _value(one: dict[str, Any]) -> str:
    if one["error"]:
        return "an error"
    value: Json = one["value"]
    return plain(orjson.dumps(value).decode(), 120) if one["defined"] else "undefined"


def _style(one: dict[str, Any]) -> str:
    if one["error"] or not one["defined"] or one["value"] is False:
        return "red"
    return "green" if one["value"] is True else ""
