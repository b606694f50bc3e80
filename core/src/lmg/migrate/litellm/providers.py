"""Deployments, gathered into as few providers as can serve them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..notes import Notes
from .deployments import Deployment

__all__ = ["Served", "gather"]


class Served:
    """A provider to be: deployments of one component with the same settings, each model once."""

    def __init__(self, component: str, settings: dict[str, Any]) -> None:
        self.name = component
        self.component, self.settings = component, settings
        self.deployments: list[Deployment] = []

    def takes(self, deployment: Deployment) -> bool:
        """Whether ``deployment`` can be one of these."""
        return (self.component, self.settings) == (deployment.component, deployment.settings) and all(
            deployment.model != other.model for other in self.deployments
        )

    def as_mesh(self, aliases: Mapping[str, str]) -> dict[str, Any]:
        """The provider's settings. ``aliases`` are further names of models."""
        names = {d.model: d.upstream for d in self.deployments}
        names |= {
            alias: names[model] for alias, model in aliases.items() if model in names and alias not in names
        }
        mesh: dict[str, Any] = {**self.settings, "models": list(names)}
        mapped = {model: upstream for model, upstream in names.items() if model != upstream}
        if mapped:
            mesh["model_map"] = mapped
        return mesh


def gather(deployments: Sequence[Deployment], notes: Notes) -> list[Served]:
    """The providers, by component, in the order of the source; of several, ``openai/1``, ``openai/2``, …"""
    found: list[Served] = []
    for deployment in deployments:
        twin = next((one for served in found for one in served.deployments if _same(one, deployment)), None)
        if twin is not None:
            notes.changed(deployment.path, f"it says what model_list[{twin.path[1]}] says: left out")
            continue
        place = next((served for served in found if served.takes(deployment)), None)
        if place is None:
            place = Served(deployment.component, deployment.settings)
            found.append(place)
        place.deployments.append(deployment)
    for component in {served.component for served in found}:
        same = [served for served in found if served.component == component]
        for n, served in enumerate(same, 1):
            served.name = component if len(same) == 1 else f"{component}/{n}"
    return found


def _same(one: Deployment, other: Deployment) -> bool:
    return (one.component, one.model, one.upstream, one.settings) == (
        other.component,
        other.model,
        other.upstream,
        other.settings,
    )
