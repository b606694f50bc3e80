"""A bundle's archive, unpacked in memory: bounded, regular files only, under plain names."""

from __future__ import annotations

import io
import tarfile
import zlib
from typing import Final

from .engine import PolicyFault

__all__ = ["MAX_FILES", "MAX_UNPACKED_BYTES", "unpack"]

MAX_UNPACKED_BYTES: Final = 64 << 20
MAX_FILES: Final = 10_000
_GZIP: Final = 16 + zlib.MAX_WBITS


def unpack(packed: bytes) -> dict[str, bytes]:
    """The files of a ``.tar.gz`` by their names.

    Nothing is written to a disk, so there is no path to escape from; a name that could mean two places, a link, a device
    and a name that comes twice are refused all the same: whoever signs or reviews a bundle must see what runs.

    Raises:
        PolicyFault: it is no such archive, or larger than allowed.
    """
    plain = _inflated(packed)
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for count, member in enumerate(archive):
                if count >= MAX_FILES:
                    raise PolicyFault(f"the bundle has more than {MAX_FILES} entries")
                if member.isdir():
                    continue
                name = _plain_name(member.name)
                opened = archive.extractfile(member) if member.isreg() else None
                if opened is None:
                    raise PolicyFault(f"the bundle holds {name!r}, which is no regular file")
                if name in files:
                    raise PolicyFault(f"the bundle holds {name!r} twice")
                files[name] = opened.read()
    except (tarfile.TarError, UnicodeError, EOFError, ValueError) as error:
        raise PolicyFault(f"the bundle is no readable archive: {type(error).__name__}") from None
    return files


def _inflated(packed: bytes) -> bytes:
    inflate = zlib.decompressobj(_GZIP)
    try:
        plain = inflate.decompress(packed, MAX_UNPACKED_BYTES + 1)
    except zlib.error:
        raise PolicyFault("the bundle is not compressed with gzip, or was cut off") from None
    if len(plain) > MAX_UNPACKED_BYTES:
        raise PolicyFault(f"the bundle unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    if not inflate.eof or inflate.unused_data:
        raise PolicyFault("the bundle was cut off, or has bytes behind its end")
    return plain


def _plain_name(name: str) -> str:
    """``name`` without the ``/`` or ``./`` that archivers put before it."""
    parts = name.removeprefix("./").removeprefix("/").split("/")
    if any(part in ("", ".", "..") for part in parts) or any(char < " " or char == "\\" for char in name):
        raise PolicyFault(f"the bundle holds a file with the name {name[:200]!r}")
    return "/".join(parts)
