"""Bundles: what files amount to, archives without tricks, and signatures that hold."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from lmg_opa import OpaConfig, archive
from lmg_opa.archive import unpack
from lmg_opa.bundles import bundle_of
from lmg_opa.config import BundleKeyConfig
from lmg_opa.engine import PolicyFault
from lmg_opa.signatures import content_hash, verify
from lmg_opa.sources import PathSource

REGO = b"package lmg.authz\n\nallow := true\n"
SECRET = "a-secret-for-bundles-that-is-long-enough-for-every-one-of-the-hashes"


# -- layout -----------------------------------------------------------------------------------------


def test_data_stands_at_its_directory_and_modules_at_their_path() -> None:
    files = {
        "policy.rego": REGO,
        "data.json": b'{"top": 1}',
        "teams/data.yaml": b"a: [x, 2026-01-01]\n",
        "teams/eu/data.json": b'{"size": 2}',
        "teams/other.json": b'{"ignored": true}',
        ".signatures.json": b"{}",
    }
    bundle = bundle_of(files, packed=True)
    assert bundle.modules == {"policy.rego": REGO.decode()}
    assert bundle.data == {"top": 1, "teams": {"a": ["x", "2026-01-01"], "eu": {"size": 2}}}
    loose = bundle_of(files, packed=False)
    assert loose.data["teams"] == {"a": ["x", "2026-01-01"], "eu": {"size": 2}, "ignored": True}


def test_the_revision_is_the_manifests_or_a_digest_of_everything() -> None:
    assert bundle_of({"a.rego": REGO, ".manifest": b'{"revision": "r-1"}'}, packed=True).revision == "r-1"
    one = bundle_of({"a.rego": REGO}, packed=True).revision
    two = bundle_of({"a.rego": REGO, "data.json": b"{}"}, packed=True).revision
    assert one.startswith("sha256:") and one != two
    assert one == bundle_of({"a.rego": REGO}, packed=False).revision


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "no policy"),
        ({"data.json": b"{}"}, "no policy"),
        ({"a.rego": b"\xff"}, "a.rego: not UTF-8"),
        ({"a.rego": REGO, "data.json": b'{"a": 1, "a": 2}'}, "data.json"),
        ({"a.rego": REGO, "data.json": b"[1]"}, "data.json: at the top"),
        ({"a.rego": REGO, "data.json": b'{"a": NaN}'}, "data.json"),
        ({"a.rego": REGO, "data.json": b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}"}, "data.json"),
        ({"a.rego": REGO, "x/data.json": b'{"a": 1}', "data.json": b'{"x": {"a": 2}}'}, "data.a stands in another"),
        ({"a.rego": REGO, "data.yaml": b"a: [\n"}, "data.yaml:2"),
        ({"a.rego": REGO, "data.yaml": b"a: &a [1]\nb: *a\n"}, "data.yaml:2: aliases"),
        ({"a.rego": REGO, "data.yaml": b"a: .nan\n"}, "JSON does not have"),
        ({"a.rego": REGO, "data.yaml": b"1: a\n"}, "JSON does not have"),
        ({"a.rego": REGO, "data.yaml": b"a: !!python/object/apply:os.getpid []\n"}, "data.yaml:1"),
        ({"a.rego": REGO, "data.yaml": b"a: " + b"[" * 3000}, "data.yaml"),
        ({"a.rego": REGO, ".manifest": b"{"}, ".manifest"),
    ],
)  # fmt: skip
def test_what_is_no_bundle_is_refused_with_its_file(files: dict[str, bytes], says: str) -> None:
    with pytest.raises(PolicyFault, match=says):
        bundle_of(files, packed=True)


async def test_one_file_and_an_archive_are_bundles_too(tmp_path: Path) -> None:
    (tmp_path / "only.rego").write_bytes(REGO)
    (tmp_path / "other.rego").write_bytes(b"never read")
    one = await PathSource(tmp_path / "only.rego", 1).load()
    assert one is not None and list(one.modules) == ["only.rego"]
    (tmp_path / "b.tar.gz").write_bytes(tar(("p/a.rego", REGO)))
    packed = await PathSource(tmp_path / "b.tar.gz", 1).load()
    assert packed is not None and list(packed.modules) == ["p/a.rego"]


async def test_hidden_files_of_a_directory_are_no_part_of_it_and_links_are_followed(tmp_path: Path) -> None:
    version = tmp_path / "..2026"  # as Kubernetes mounts a ConfigMap
    version.mkdir()
    (version / "a.rego").write_bytes(REGO)
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "a.rego").symlink_to("..data/a.rego")
    bundle = await PathSource(tmp_path, 1).load()
    assert bundle is not None and list(bundle.modules) == ["a.rego"]


# -- archives ---------------------------------------------------------------------------------------


def tar(*files: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as made:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd"
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            made.addfile(member, io.BytesIO(content))
    return out.getvalue()


def test_an_archive_is_unpacked_in_memory_under_plain_names() -> None:
    assert unpack(tar(("/a.rego", b"1"), ("./b/c.json", b"2"))) == {"a.rego": b"1", "b/c.json": b"2"}


@pytest.mark.parametrize(
    "packed",
    [
        tar(("../a.rego", b"1")),
        tar(("a/../../b", b"1")),
        tar(("//etc/passwd", b"1")),
        tar(("a//b", b"1")),
        tar(("a\\b", b"1")),
        tar(("a\nb", b"1")),
        tar(("", b"1")),
        tar(("a.rego", b""), kind=tarfile.SYMTYPE),
        tar(("a.rego", b""), kind=tarfile.LNKTYPE),
        tar(("a", b""), kind=tarfile.CHRTYPE),
        tar(("a", b""), kind=tarfile.FIFOTYPE),
        tar(("a.rego", b"1"), ("a.rego", b"2")),
        tar(("a.rego", b"1"), ("./a.rego", b"2")),
        tar(("a.rego", b"1")) + b"more",
        tar(("a.rego", b"1"))[:-1],
        b"",
        b"PK\x03\x04",
        gzip.compress(b"\x00" * 511 + b"x"),
    ],
    ids=lambda packed: f"{len(packed)} bytes",
)
def test_an_archive_with_tricks_is_refused(packed: bytes) -> None:
    with pytest.raises(PolicyFault):
        bundle_of(unpack(packed), packed=True)


def test_a_bomb_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(PolicyFault, match="unpacks to more"):
        unpack(gzip.compress(b"\x00" * (2 << 20)))
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    with pytest.raises(PolicyFault, match="more than 3"):
        unpack(tar(*((f"{n}.rego", b"") for n in range(5))))


# -- signatures -------------------------------------------------------------------------------------


def key(secret: str = SECRET, algorithm: str = "HS256", scope: str = "") -> BundleKeyConfig:
    return BundleKeyConfig.model_validate({"algorithm": algorithm, "key": secret, "scope": scope})


def token(
    files: dict[str, bytes],
    *,
    headers: Any = None,
    secret: Any = SECRET,
    algorithm: str = "HS256",
    **claims: Any,
) -> str:
    listed = [
        {"name": name, "algorithm": "SHA-256", "hash": content_hash(name, raw, "SHA-256")}
        for name, raw in files.items()
    ]
    return jwt.encode({"files": listed, **claims}, secret, algorithm, headers=headers or {"kid": "release"})


def with_token(files: dict[str, bytes], made: str) -> dict[str, bytes]:
    return {**files, ".signatures.json": json.dumps({"signatures": [made]}).encode()}


FILES = {
    "a.rego": REGO,
    "data.json": b'{"b": [1, 2.50], "a": "\xe2\x80\xa8<"}',
    ".manifest": b'{"revision": "r"}',
}


def test_a_manifest_is_hashed_without_its_white_space_and_a_module_as_it_is() -> None:
    canonical = b'{"revision":"quickbrownfaux"}'
    assert (
        content_hash(".manifest", b'{"revision":  "quickbrownfaux" }', "SHA-256")
        == hashlib.sha256(canonical).hexdigest()
    )
    assert content_hash("x.rego", b"text", "SHA-512") == hashlib.sha512(b"text").hexdigest()


def test_data_is_hashed_by_its_value_with_the_digits_as_written() -> None:
    canonical = b'{"a":"\\u2028<","b":[1,2.50]}'
    assert content_hash("x/data.json", FILES["data.json"], "SHA-256") == hashlib.sha256(canonical).hexdigest()
    spaced = b'{ "a": "\xe2\x80\xa8<",\n "b": [1,2.50] }'
    assert content_hash("data.json", spaced, "SHA-256") == hashlib.sha256(canonical).hexdigest()


def test_a_bundle_signed_with_a_known_key_is_taken() -> None:
    verify(with_token(FILES, token(FILES)), {"release": key()})
    verify(with_token(FILES, token(FILES, scope="write")), {"release": key(scope="write")})
    verify(
        with_token(FILES, token(FILES, headers={"typ": "JWT"}, keyid="old")),
        {"old": key(), "new": key("y" * 40)},
    )
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    made = token(FILES, secret=private, algorithm="ES256")
    verify(with_token(FILES, made), {"release": key(public.decode(), "ES256")})
    with pytest.raises(PolicyFault):  # the public key is no shared secret
        verify(with_token(FILES, made), {"release": key()})


def bad_signatures() -> list[tuple[str, dict[str, bytes]]]:
    good = token(FILES)
    head, payload, _ = good.split(".")
    none = jwt.encode({"files": []}, None, "none", headers={"kid": "release"})  # type: ignore[arg-type]
    md5 = [
        {"name": "a.rego", "algorithm": "MD5", "hash": hashlib.md5(REGO, usedforsecurity=False).hexdigest()}
    ]
    return [
        ("none at all", FILES),
        ("two", {**FILES, ".signatures.json": json.dumps({"signatures": [good, good]}).encode()}),
        ("none in it", {**FILES, ".signatures.json": b'{"signatures": []}'}),
        ("a plugin", {**FILES, ".signatures.json": json.dumps({"signatures": [good], "plugin": "x"}).encode()}),
        ("not JSON", {**FILES, ".signatures.json": b"{"}),
        ("not a token", with_token(FILES, "abc")),
        ("no signature", with_token(FILES, f"{head}.{payload}.")),
        ("alg none", with_token(FILES, none)),
        ("another algorithm", with_token(FILES, token(FILES, algorithm="HS512"))),
        ("another secret", with_token(FILES, token(FILES, secret="z" * 64))),
        ("an unknown key", with_token(FILES, token(FILES, headers={"kid": "x"}))),
        ("another scope", with_token(FILES, token(FILES, scope="write"))),
        ("expired", with_token(FILES, token(FILES, exp=1))),
        ("a file too many", {**with_token(FILES, good), "b.rego": REGO}),
        ("a file too few", {k: v for k, v in with_token(FILES, good).items() if k != "data.json"}),
        ("another content", {**with_token(FILES, good), "a.rego": REGO + b"\n"}),
        ("another value", {**with_token(FILES, good), "data.json": b'{"b": [1, 2.5], "a": "\xe2\x80\xa8<"}'}),
        ("a weak hash", with_token({"a.rego": REGO}, jwt.encode({"files": md5}, SECRET, "HS256", headers={"kid": "release"}))),
        ("no list", with_token({}, jwt.encode({"files": {}}, SECRET, "HS256", headers={"kid": "release"}))),
        ("a list of other things", with_token({}, jwt.encode({"files": [1]}, SECRET, "HS256", headers={"kid": "release"}))),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "files"), bad_signatures(), ids=lambda item: item if isinstance(item, str) else ""
)
def test_a_signature_that_does_not_hold_is_refused(what: str, files: dict[str, bytes]) -> None:
    with pytest.raises(PolicyFault):
        verify(files, {"release": key()})


PRIVATE = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    .decode()
)


# -- configuration ----------------------------------------------------------------------------------

URL = {"url": "https://x.example/b.tar.gz", "unsigned": True}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "exactly one of"),
        ({"bundle": "a", "server": {"url": "http://127.0.0.1:8181"}}, "not bundle and server"),
        (
            {"server": {"url": "http://127.0.0.1:8181", "socket": "/run/opa.sock"}},
            "exactly one of url and socket",
        ),
        ({"server": {"url": "http://opa.example:8181"}}, "only https"),
        ({"server": {"url": "http://u:p@127.0.0.1"}}, "ends up in logs"),
        ({"server": {"url": "ftp://127.0.0.1"}}, "not a URL of http"),
        ({"server": {"url": "http://127.0.0.1"}, "engine": "wasm"}, "a server brings its own"),
        ({"bundle_url": {"url": "https://x.example/b.tar.gz"}}, "state the `keys`"),
        ({"bundle_url": {**URL, "keys": {"a": {"algorithm": "HS256", "key": "x" * 32}}}}, "not `unsigned`"),
        ({"bundle_url": {**URL, "url": "http://x.example/b"}}, "only https"),
        ({"bundle": "a", "input": {"headers": ["authorization"]}}, "is a credential"),
        ({"bundle": "a", "input": {"headers": ["X-Team"]}}, "pattern"),
        ({"bundle": "a", "facts": ["risk", "risk"]}, "once"),
        ({"bundle": "a", "decision_log": {}}, "file, url, or both"),
        ({"bundle": "a", "decision_log": {"file": "x", "mask": ["input/x"]}}, "pattern"),
        ({"bundle": "a", "package": "lmg-authz"}, "pattern"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(settings: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        OpaConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("algorithm", "secret", "says"),
    [
        ("HS256", "short", "at least 32 bytes"),
        ("HS256", "-----BEGIN PUBLIC KEY-----" + "x" * 40, "never a public key"),
        ("RS256", "x" * 40, "this is none"),
        ("RS256", PRIVATE, "this is none"),
        ("ES256", PRIVATE, "a private key"),
    ],
)
def test_a_key_that_does_not_fit_its_algorithm_is_refused(algorithm: str, secret: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        key(secret, algorithm)
