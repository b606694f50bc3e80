"""Where a bundle comes from: a path that is looked at, or a URL that is asked, again and again."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import httpx

from lmg import MeshError

from .archive import MAX_FILES, MAX_UNPACKED_BYTES, unpack
from .bundles import bundle_of, is_part
from .engine import Bundle
from .signatures import verify

if TYPE_CHECKING:
    from lmg import Host

    from .config import BundleUrlConfig

__all__ = ["PathSource", "Source", "SourceFault", "UrlSource"]

MAX_PACKED_BYTES: Final = 16 << 20
MAX_BACKOFF: Final = 10
TRIES: Final = 5
ARCHIVES: Final = (".tar.gz", ".tgz")
Prints = Mapping[str, tuple[int, int, int]]


class SourceFault(MeshError):
    """The bundle cannot be had now. The text is for the operator and quotes nothing of what came."""


class Source(Protocol):
    """Gives newer versions of one bundle."""

    async def load(self) -> Bundle | None:
        """The version that is there now; None where it is the one that was given last.

        Raises:
            SourceFault: it cannot be had.
            PolicyFault: it is no bundle. It is not looked into again until it changes.
        """

    async def keep(self) -> None:
        """What was given last has become the running one."""

    async def kept(self) -> Bundle | None:
        """The last that ran, from before this process; None where nobody kept it."""

    @property
    def wait_s(self) -> float:
        """How long to wait before the next look."""


# -- a path -----------------------------------------------------------------------------------------


class PathSource:
    """A directory, a file, or an archive. Replace directories whole (a link that is swapped, a ConfigMap): files that are
    written one by one may be read in between.
    """

    def __init__(self, path: Path, wait_s: float) -> None:
        self.path = path
        self.wait_s = wait_s
        self._seen: Prints | None = None

    async def load(self) -> Bundle | None:
        """See ``Source``."""
        return await asyncio.to_thread(self._load)

    async def keep(self) -> None:
        """Nothing: the path is still there after a restart."""

    async def kept(self) -> Bundle | None:
        """None, for the same reason."""
        return None

    def _load(self) -> Bundle | None:
        try:
            for _ in range(TRIES):
                before = dict(self._prints())
                if before == self._seen:
                    return None
                files = {name: (self._root / name).read_bytes() for name in before}
                if dict(self._prints()) == before:
                    break
            else:
                raise SourceFault(f"{self.path} changes while it is read")
        except OSError as error:
            raise SourceFault(f"{self.path} cannot be read: {error.strerror}") from None
        self._seen = before
        if len(files) == 1 and self.path.name.endswith(ARCHIVES):
            return bundle_of(unpack(files[self.path.name]), packed=True)
        return bundle_of(files, packed=False)

    @property
    def _root(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def _prints(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
        """Every file of the bundle, with what changes when it does."""
        total = 0
        for count, (name, path) in enumerate(self._paths()):
            stat = path.stat()
            total += stat.st_size
            if count >= MAX_FILES or total > MAX_UNPACKED_BYTES:
                raise SourceFault(
                    f"{self.path} has more than {MAX_FILES} files, or more than {MAX_UNPACKED_BYTES} bytes"
                )
            yield name, (stat.st_mtime_ns, stat.st_size, stat.st_ino)

    def _paths(self) -> Iterator[tuple[str, Path]]:
        if not self.path.is_dir():
            yield self.path.name, self.path
            return
        for folder, inner, names in os.walk(self.path):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            at = Path(folder)
            for name in sorted(names):
                relative = (at / name).relative_to(self.path).as_posix()
                if is_part(relative):
                    yield relative, at / name


# -- a URL ------------------------------------------------------------------------------------------


class UrlSource:
    """A download, asked for by its ETag. The last that ran is kept in the state directory, so that a gateway starts while
    the server is down; its signature is verified again.
    """

    def __init__(self, host: Host, name: str, config: BundleUrlConfig) -> None:
        self._host = host
        self._config = config
        self._etag = ""
        self._digest = b""
        self._packed = b""
        self._failures = 0
        state = host.state_dir
        self._file = state / "opa" / f"{name.replace('/', '_')}.tar.gz" if state is not None else None

    @property
    def wait_s(self) -> float:
        """``poll_s``, longer after failures."""
        return self._config.poll_s * float(min(1 << self._failures, MAX_BACKOFF))

    async def load(self) -> Bundle | None:
        """See ``Source``."""
        self._failures = min(self._failures + 1, MAX_BACKOFF)
        fetched = await self._fetch()
        bundle = None
        if fetched is not None:
            etag, packed = fetched
            digest = hashlib.sha256(packed).digest()
            if digest != self._digest:
                bundle = await asyncio.to_thread(self._read, packed)
                self._digest, self._packed = digest, packed
            self._etag = etag
        self._failures = 0
        return bundle

    async def keep(self) -> None:
        """Writes what was given last into the state directory."""
        if self._file is not None and self._packed:
            await asyncio.to_thread(_replace, self._file, self._packed)
        self._packed = b""

    async def kept(self) -> Bundle | None:
        """See ``Source``."""
        if self._file is None or not self._file.exists():
            return None
        return await asyncio.to_thread(lambda file: self._read(file.read_bytes()), self._file)

    def _read(self, packed: bytes) -> Bundle:
        files = unpack(packed)
        if not self._config.unsigned:
            verify(files, self._config.keys)
        return bundle_of(files, packed=True)

    async def _fetch(self) -> tuple[str, bytes] | None:
        headers = {"accept-encoding": "identity"}
        if self._etag:
            headers["if-none-match"] = self._etag
        if self._config.token is not None:
            headers["authorization"] = f"Bearer {self._config.token.get_secret_value()}"
        try:
            async with (
                asyncio.timeout(self._config.timeout_s),
                self._host.http.stream("GET", self._config.url, headers=headers) as response,
            ):
                if response.status_code == 304 and self._etag:
                    return None
                if response.status_code != 200:
                    raise SourceFault(f"the bundle's server answered {response.status_code}")
                packed = bytearray()
                async for piece in response.aiter_raw():
                    packed += piece
                    if len(packed) > MAX_PACKED_BYTES:
                        raise SourceFault(f"the bundle is larger than {MAX_PACKED_BYTES} bytes")
                return response.headers.get("etag", ""), bytes(packed)
        except TimeoutError:
            raise SourceFault(f"the bundle did not come within {self._config.timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise SourceFault(f"the bundle's server cannot be reached: {type(error).__name__}") from None


def _replace(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(file)
