"""The live keys on disk, signed: what a gateway starts with while the database is away.

Two files in ``server.state_dir``, readable by nobody else: the keys (digests, not keys), and a small stamp that says
until when they were known to be right, so that a large list is written only when it has changed. Both carry an HMAC
under a pepper; a file that somebody edited is refused. An older pair put in the place of a newer one is good until
``max_stale_s`` after its own stamp, no longer.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import orjson

from lmg import ServiceError

from .directory import NEVER, Entry
from .peppers import Peppers
from .store import State

__all__ = ["Snapshot", "SnapshotRefused", "Taken"]

FORMAT: Final = 1


class SnapshotRefused(ServiceError):
    """There is none, or it cannot be relied on; ``str(error)`` says why."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a snapshot holds. ``confirmed_at`` (seconds since the epoch) is when the database last said the same."""

    state: State
    confirmed_at: float
    entries: list[Entry]


class Snapshot:
    """The two files of one component. Methods block: call them in a thread."""

    def __init__(self, path: Path, place: str, peppers: Peppers) -> None:
        self._path = path
        self._stamp = path.with_name(path.name + ".stamp")
        self._place = place
        self._peppers = peppers

    def save(self, state: State, confirmed_at: float, entries: list[Entry]) -> None:
        """Writes both files; whoever reads at the same time sees the old ones, or the new ones.

        Raises:
            OSError: the disk is full, or the folder not ours.
        """
        head = {"format": FORMAT, "place": self._place, **_of(state), "saved_at": confirmed_at}
        blocks = (orjson.dumps([_row(entry) for entry in some]) for some in _by_thousands(entries))
        self._write(self._path, chain((orjson.dumps(head),), blocks))
        self.confirm(state, confirmed_at)

    def confirm(self, state: State, confirmed_at: float) -> None:
        """Writes that the database still says what the file holds."""
        self._write(self._stamp, (orjson.dumps({**_of(state), "confirmed_at": confirmed_at}),))

    def is_newer_than(self, state: State) -> bool:
        """Whether somebody has written a later state of the same database."""
        try:
            stamp = orjson.loads(self._read(self._stamp))
        except SnapshotRefused:
            return False
        return bool(stamp["epoch"] == state.epoch and stamp["revision"] > state.revision)

    def load(self) -> Taken:
        """Reads it.

        Raises:
            SnapshotRefused: it is missing, was edited, or is of another database, pepper or release.
        """
        head, *blocks = self._read(self._path).split(b"\n")
        said = orjson.loads(head)
        if said.get("format") != FORMAT:
            raise SnapshotRefused("the snapshot is of another release")
        if said["place"] != self._place:
            raise SnapshotRefused("the snapshot is of another database")
        state, confirmed_at = State(said["epoch"], said["revision"]), said["saved_at"]
        try:
            stamp = orjson.loads(self._read(self._stamp))
        except SnapshotRefused:
            stamp = {}
        if (stamp.get("epoch"), stamp.get("revision")) == (state.epoch, state.revision):
            confirmed_at = max(confirmed_at, stamp["confirmed_at"])
        names: dict[str, str] = {}
        entries = []
        for block in blocks:
            for key_id, digest, pepper, subject, tenant, allows, ends in orjson.loads(block):
                pepper = names.setdefault(pepper, pepper)
                entries.append(Entry(key_id, bytes.fromhex(digest), pepper, subject, tenant, allows, ends))
        return Taken(state, confirmed_at, entries)

    # -- signed files: lines of JSON, then a line with the pepper's name and the signature --------------------
    def _write(self, path: Path, lines: Iterable[bytes]) -> None:
        pepper = self._peppers.current
        signer = self._signer(path, pepper)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{id(self):x}")
        try:
            with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                for line in lines:
                    signer.update(line + b"\n")
                    file.write(line + b"\n")
                file.write(f"{pepper} {signer.hexdigest()}".encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _read(self, path: Path) -> bytes:
        """The lines of a file whose signature is right, without the last line break."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise SnapshotRefused(f"the snapshot cannot be read ({error.strerror})") from error
        body, ended, last = raw.rpartition(b"\n")
        pepper, _, signature = last.decode("ascii", "replace").partition(" ")
        if ended and pepper in self._peppers:
            signer = self._signer(path, pepper)
            signer.update(body)
            signer.update(ended)
            if hmac.compare_digest(signer.hexdigest().encode(), signature.encode()):
                return body
        raise SnapshotRefused(
            "the snapshot's signature is wrong: it was edited, or the pepper is another one"
        )

    def _signer(self, path: Path, pepper: str) -> hmac.HMAC:
        """Signs the file's name too, so that neither file can stand in the place of the other."""
        signer = self._peppers.signer(pepper)
        signer.update(path.name.encode() + b"\n")
        return signer


def _by_thousands(entries: list[Entry]) -> Iterator[list[Entry]]:
    """In blocks: a line for each key would take several times its memory while it is written."""
    for start in range(0, len(entries), 1_000):
        yield entries[start : start + 1_000]


def _row(entry: Entry) -> tuple[str | float | None, ...]:
    ends = None if entry.expires_at == NEVER else entry.expires_at
    return (entry.id, entry.digest.hex(), entry.pepper, entry.subject, entry.tenant, entry.allows, ends)


def _of(state: State) -> dict[str, Any]:
    return {"epoch": state.epoch, "revision": state.revision}
