"""mesh.yaml: references, includes, places of faults, hints; secrets never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr

from lmg import Component, ComponentConfig, ConfigError, Exchange, yamltext
from lmg.config import MeshConfig, read_config
from lmg.pipeline import draft
from lmg.testing.gateway import Scripted

CLASSES: dict[str, Any] = {"scripted": Scripted}


def write(folder: Path, text: str, name: str = "mesh.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load(path: Path, environ: dict[str, str] | None = None, **classes: Any) -> Any:
    config, document = read_config(path, environ or {})
    return draft(config, document, installed={}, classes={**CLASSES, **classes})


def test_references_in_a_flow_mapping_need_no_quotes(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'providers:\n  scripted: {endpoint: "http://h", api_key: ${KEY}, models: ["a", "b"], priority: ${P:-7}}\n',
    )
    [part] = load(path, {"KEY": "sk-1"}).providers
    assert part.settings.api_key.get_secret_value() == "sk-1"
    assert (part.settings.priority, part.settings.models) == (7, ["a", "b"])


@pytest.mark.parametrize(
    "value", ["x: {y: 1}", "a\nb: c", '"quoted" # not a comment', "[1, 2]", "*alias", "true"]
)
def test_a_reference_never_becomes_structure(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, "providers:\n  scripted: {endpoint: http://h, models: [m], region: ${R}}\n")
    [part] = load(path, {"R": value}).providers
    assert part.settings.region == value


def test_a_secret_file_is_read_and_its_last_newline_dropped(tmp_path: Path) -> None:
    secret = write(tmp_path, "sk-from-file\n", "key")
    path = write(
        tmp_path,
        f"providers:\n  scripted: {{endpoint: http://h, models: [m], api_key: ${{file:{secret}}}}}\n",
    )
    [part] = load(path).providers
    assert part.settings.api_key.get_secret_value() == "sk-from-file"


def test_an_absent_variable_is_named_with_its_place_and_what_to_do(tmp_path: Path) -> None:
    path = write(
        tmp_path, "providers:\n  scripted:\n    endpoint: http://h\n    models: [m]\n    api_key: ${NOPE}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}:5: providers.scripted.api_key: the environment has no NOPE (set NOPE, or write ${{NOPE:-default}})"
    )


def test_includes_are_merged_and_faults_in_them_carry_their_own_place(tmp_path: Path) -> None:
    write(tmp_path, "providers:\n  scripted: {endpoint: http://h, models: [m]}\n", "config/providers.yaml")
    path = write(tmp_path, "include: config/providers.yaml\nserver: {port: 9}\n")
    assert [part.name for part in load(path).providers] == ["scripted"]
    included = write(
        tmp_path,
        "providers:\n  scripted:\n    endpoint: http://h\n    modles: [m]\n",
        "config/providers.yaml",
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(
        f"{included}:4: providers.scripted.modles: 'modles' is not a setting (did you mean 'models'?"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pipeline:\n  - pii_filtre\n", "'pii_filtre' is not installed"),
        ("server:\n  prot: 1\n", "mesh.yaml:2: server.prot: 'prot' is not a setting (did you mean 'port'?)"),
        ("server: {port: 99999}\n", "server.port"),
        ("a: 1\na: 2\n", "'a' is configured twice"),
        ("server: {host: [}\n", "mesh.yaml:1: not valid YAML"),
        ("- a\n", "the configuration must be a mapping"),
        ("include: mesh.yaml\n", "includes itself"),
        ("pipeline:\n  - {a: {}, b: {}}\n", "an entry has one name"),
        ("x: !!python/object/apply:os.system ['true']\n", "mesh.yaml"),
        ("server: {}\nx: &x [*x]\n", "mesh.yaml:2: nested deeper than 100 (an alias of itself?)"),
        ("x: &x\n  <<: *x\n", "mesh.yaml:2: <<: takes a mapping"),
        ("x:\n  <<: [1]\n", "mesh.yaml:2: <<: takes a mapping"),
        ("server: {}\nx: !!float a\n", "mesh.yaml:2: this is no float"),
        ("x: 2026-99-99\n", "mesh.yaml:1: this is no timestamp"),
    ],
)
def test_a_fault_tells_where_and_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert said in str(caught.value)


def test_a_merged_mapping_gives_what_its_own_keys_do_not(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "server: &a {port: 1, host: localhost}\nother: &b {port: 2, drain_s: 3}\nx:\n  <<: [*a, *b]\n  port: 4\n",
    )
    document = yamltext.load(path)
    assert document.value["x"] == {"port": 4, "host": "localhost", "drain_s": 3}
    assert document.where(("x", "host")) == f"{path}:1"


def test_references_can_be_left_as_they_stand(tmp_path: Path) -> None:
    path = write(
        tmp_path, "server: {host: ${NOPE}, port: '${file:/etc/passwd}'}\n".replace("${NOPE}", "'${NOPE}'")
    )
    assert yamltext.load(path, None).value == {"server": {"host": "${NOPE}", "port": "${file:/etc/passwd}"}}


class Guard(Component):
    class Config(ComponentConfig):
        threshold: float = Field(0.5, ge=0, le=1)
        token: SecretStr = SecretStr("")

    modes = frozenset({"enforce", "off"})

    def on_request(self, exchange: Exchange) -> None:
        return None


def test_a_fault_in_a_listed_component_has_its_line_and_key(tmp_path: Path) -> None:
    path = write(tmp_path, "pipeline:\n  - guard:\n      mode: enforce\n      threshold: 7\n")
    with pytest.raises(ConfigError) as caught:
        load(path, guard=Guard)
    assert str(caught.value).startswith(f"{path}:4: pipeline[0].guard.threshold:")


def test_an_error_never_quotes_a_secret(tmp_path: Path) -> None:
    path = write(tmp_path, "pipeline:\n  - guard: {token: {nested: sk-very-secret}}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, guard=Guard)
    assert "sk-very-secret" not in str(caught.value)


def test_a_mode_that_a_component_does_not_support_stops_the_start(tmp_path: Path) -> None:
    path = write(tmp_path, "pipeline:\n  - guard: {mode: shadow}\n")
    with pytest.raises(ConfigError, match="does not support mode 'shadow'"):
        load(path, guard=Guard)


def test_the_same_component_may_stand_twice_under_names_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, "pipeline:\n  - guard/in\n  - guard/out\n")
    assert [part.name for part in load(path, guard=Guard).listed] == ["guard/in", "guard/out"]
    path = write(tmp_path, "pipeline:\n  - guard\n  - guard\n")
    with pytest.raises(ConfigError, match="listed twice"):
        load(path, guard=Guard)


def test_a_pipeline_without_an_authenticator_stays_on_loopback(tmp_path: Path) -> None:
    path = write(tmp_path, "server: {host: 0.0.0.0}\n")
    with pytest.raises(ConfigError, match="no authenticator"):
        load(path)
    load(write(tmp_path, "server: {host: 0.0.0.0}\ninsecure_no_auth: true\n"))


def test_aliases_cannot_blow_up(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="aliases count each time"):
        load(write(tmp_path, "\n".join(lines)))


def test_every_setting_of_the_kernel_has_a_description() -> None:
    def walk(model: Any) -> None:
        for name, field in model.model_fields.items():
            inner = [
                t
                for t in (field.annotation, *getattr(field.annotation, "__args__", ()))
                if hasattr(t, "model_fields")
            ]
            assert field.description or inner, f"{model.__name__}.{name}"
            for other in inner:
                walk(other)

    walk(MeshConfig)


def test_a_bare_off_is_a_mode(tmp_path: Path) -> None:
    [part] = load(write(tmp_path, "pipeline:\n  - guard: {mode: off}\n"), guard=Guard).listed
    assert part.envelope.mode == "off"


def test_a_key_is_what_is_written_also_where_yaml_reads_a_truth_value(tmp_path: Path) -> None:
    path = write(tmp_path, "providers:\n  on: {off: true}\n  1e3: {}\n")
    assert yamltext.load(path).value == {"providers": {"on": {"off": True}, "1e3": {}}}
