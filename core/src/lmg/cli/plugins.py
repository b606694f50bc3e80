"""List the components that are installed, or begin a plugin of your own."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ..compiler import check_component
from ..config import Envelope
from ..discovery import Installed, discover, kind_of, load_component
from ..errors import ConfigError
from ..hookspecs import LIFE_HOOKS, SETUP_HOOKS
from .output import console, print_json, table
from .scaffold import KINDS, create

__all__ = ["HELP", "arguments", "describe", "run"]

HELP = "list installed components; `plugins new` begins a plugin"


def arguments(parser: ArgumentParser) -> None:
    """`lmg plugins`' options, and its subcommand `new`."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(dest="action", metavar="new")
    new = actions.add_parser(
        "new", help="begin a plugin: a distribution with a working component and tests that pass"
    )
    new.add_argument("name", metavar="NAME", help="the component's name in mesh.yaml, as in word_list")
    new.add_argument("--kind", required=True, choices=KINDS, help="what it is an example of")
    new.add_argument("--dir", type=Path, default=Path(), help="where its folder goes (default: here)")


def run(options: Namespace) -> int:
    """0, also where a component is broken: the list says so."""
    if options.action == "new":
        return _new(options)
    installed = discover()
    found = [describe(name, installed) for name in sorted(installed)]
    if options.json:
        print_json(found)
    else:
        _show(found)
    return 0


def describe(name: str, installed: dict[str, Installed]) -> dict[str, Any]:
    """One installed component, as plain values; ``broken`` says why it cannot be used."""
    item = installed[name]
    found: dict[str, Any] = {
        "name": name,
        "distribution": item.distribution,
        "version": item.version,
        "broken": None,
    }
    try:
        component = load_component(name, installed, kind=("listed", "provider", "service"))
        kind = kind_of(component)
        if kind == "listed":
            check_component(component, Envelope(), name)
    except ConfigError as error:
        return found | {"broken": str(error)}
    hooks = [hook for hook in (*LIFE_HOOKS, *SETUP_HOOKS) if hasattr(component, hook)]
    return found | {
        "kind": kind,
        "stability": component.stability,
        "hooks": hooks if kind == "listed" else [],
        "operations": sorted(component.operations) if kind == "provider" else [],
        "protocol": component.protocol if kind == "service" else None,
        "summary": component.summary,
    }


def _show(found: list[dict[str, Any]]) -> None:
    out = console()
    listing = table(
        "Installed components", "component", "kind", "distribution", "stability", "does", "summary"
    )
    for item in found:
        distribution = f"{item['distribution']} {item['version']}"
        if item["broken"] is not None:
            listing.add_row(item["name"], "broken", distribution, "", "", item["broken"], style="red")
            continue
        does = [*item["hooks"], *item["operations"], *([item["protocol"]] if item["protocol"] else [])]
        listing.add_row(
            item["name"], item["kind"], distribution, item["stability"], ", ".join(does), item["summary"]
        )
    if found:
        out.print(listing)
    else:
        out.print("No component is installed: pip install lmg-echo is a beginning.")


def _new(options: Namespace) -> int:
    home = create(options.name, options.kind, options.dir)
    section = "providers" if options.kind == "provider" else "pipeline"
    sys.stdout.write(
        f"{home} holds the {options.kind} '{options.name}'.\n\n"
        f"  pip install -e '{home}[test]'\n"
        f"  pytest {home}\n\n"
        f"README.md shows how it stands in mesh.yaml, under `{section}:`.\n"
    )
    return 0
