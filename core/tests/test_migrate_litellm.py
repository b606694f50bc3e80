"""`lmg import litellm`: what becomes of a proxy's configuration, and that no secret does.

The files in golden/litellm hold a configuration on top, the mesh.yaml that it becomes below, the notes last. With
UPDATE_GOLDEN=1 in the environment they are written instead of compared.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmg import ConfigError
from lmg.cli import main
from lmg.config import MeshConfig, read_config, validate
from lmg.migrate import Migration
from lmg.migrate.litellm import translate
from lmg.migrate.text import render
from lmg.yamltext import load

GOLDEN = sorted((Path(__file__).parent / "golden" / "litellm").glob("*.txt"))
# Every secret that stands in one of the files.
SECRETS = (
    "written-in-the-file", "sk-1234", "nVx1", "c4che-pw", "pg-pw", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI", "user:pw", "tok-in-the-clear",
)  # fmt: skip


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^=== (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def told(migration: Migration, document: Any) -> str:
    lines = []
    for note in migration.notes:
        do = f" ({note.do})" if note.do else ""
        lines.append(f"{note.kind:<8} {document.where(note.path)}: {note.what}: {note.why}{do}\n")
    return "".join(lines)


def migrated(config: dict[str, Any]) -> Migration:
    migration = translate(config)
    validate(MeshConfig, migration.mesh, (), None)
    return migration


def one(litellm_params: dict[str, Any], **more: Any) -> Migration:
    return migrated({"model_list": [{"model_name": "m", "litellm_params": litellm_params, **more}]})


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_real_configuration_becomes_what_the_golden_file_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sections(path.read_text())["config.yaml"]
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(config)
    document = load(Path("config.yaml"), None)
    migration = translate(document.value, document)
    mesh = render(migration, made_by="lmg import litellm config.yaml")
    notes = told(migration, document)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(f"=== config.yaml\n{config}=== mesh.yaml\n{mesh}=== notes\n{notes}")
    assert sections(path.read_text()) == {"config.yaml": config, "mesh.yaml": mesh, "notes": notes}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_a_golden_file_says_is_a_mesh_without_secrets(path: Path, tmp_path: Path) -> None:
    parts = sections(path.read_text())
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(parts["mesh.yaml"])
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", parts["mesh.yaml"]), "from-the-environment")
    config, _ = read_config(mesh, environ)
    assert config.providers
    for secret in SECRETS:
        assert secret not in parts["mesh.yaml"] + parts["notes"]
    # As text it says the same as as values.
    (tmp_path / "config.yaml").write_text(parts["config.yaml"])
    assert load(mesh, None).value == translate(load(tmp_path / "config.yaml", None).value).mesh


# Providers


@pytest.mark.parametrize(
    ("model", "component", "upstream"),
    [
        ("openai/gpt-4o", "openai", "gpt-4o"), ("gpt-4o", "openai", "gpt-4o"), ("o3-mini", "openai", "o3-mini"),
        ("openai/responses/gpt-5", "openai", "gpt-5"), ("azure/my-deployment", "azure", "my-deployment"), ("azure/o_series/o3", "azure", "o3"),
        ("claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5"), ("anthropic/claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5"),
        ("gemini/gemini-2.5-pro", "gemini", "gemini-2.5-pro"), ("bedrock/anthropic.claude-v2", "bedrock", "anthropic.claude-v2"),
        ("bedrock/us-east-1/meta.llama3", "bedrock", "meta.llama3"), ("bedrock/converse/us.meta.llama3", "bedrock", "us.meta.llama3"),
        ("groq/openai/gpt-oss-20b", "groq", "openai/gpt-oss-20b"), ("xai/grok-4.5", "xai", "grok-4.5"), ("mistral/x", "mistral", "x"),
        ("deepseek/deepseek-chat", "deepseek", "deepseek-chat"), ("together_ai/meta-llama/L", "together", "meta-llama/L"),
        ("openrouter/anthropic/claude", "openrouter", "anthropic/claude"), ("ollama/llama3:8b", "ollama", "llama3:8b"),
        ("ollama_chat/llama3", "ollama", "llama3"), ("hosted_vllm/org/model", "vllm", "org/model"), ("lm_studio/m1", "lmstudio", "m1"),
    ],
)  # fmt: skip
def test_each_prefix_has_its_component(model: str, component: str, upstream: str) -> None:
    ((name, provider),) = one({"model": model}).mesh["providers"].items()
    assert name == component
    assert (provider["models"], provider.get("model_map", {}).get("m", "m")) == (["m"], upstream)


@pytest.mark.parametrize(
    "model",
    ["vertex_ai/gemini-pro", "azure_ai/phi-4", "sagemaker/x", "cohere/command-r", "command-r", "meta/llama"],
)
def test_what_no_component_serves_is_lost_with_the_reason(model: str) -> None:
    migration = one({"model": model})
    assert migration.mesh["providers"] == {}
    (note,) = [note for note in migration.notes if note.kind == "lost"]
    assert note.what == "model_list[0].litellm_params.model"
    assert note.why
    assert not migration.complete


@pytest.mark.parametrize(
    ("endpoint", "component", "on_prem"),
    [
        ("http://localhost:8000/v1", "local", None), ("http://10.1.2.3:8000", "local", None), ("http://vllm.models.svc.cluster.local/v1", "local", None),
        ("http://gpu-box/v1", "local", None), ("https://llm.example.com/v1", "local", False), ("https://api.groq.com/openai/v1", "groq", None),
        ("https://api.openai.com/v1", "openai", None), ("os.environ/LLM_URL", "local", False),
    ],
)  # fmt: skip
def test_an_openai_compatible_endpoint_decides_who_serves_it(
    endpoint: str, component: str, on_prem: bool | None
) -> None:
    ((name, provider),) = one({"model": "openai/x", "api_base": endpoint}).mesh["providers"].items()
    assert name == component
    assert provider.get("on_prem") is on_prem
    # OpenAI's own key is not for other people's servers.
    assert ("OPENAI" in str(provider.get("api_key"))) is (component != "local")


def test_an_unknown_prefix_with_an_endpoint_is_an_openai_compatible_server() -> None:
    mesh = one({"model": "org/model", "api_base": "http://localhost:9/v1"}).mesh
    assert mesh["providers"]["local"]["model_map"] == {"m": "org/model"}


def test_deployments_of_one_model_become_instances_and_the_rest_shares_them() -> None:
    def entry(name: str, model: str, key: str) -> dict[str, Any]:
        return {"model_name": name, "litellm_params": {"model": model, "api_key": f"os.environ/{key}"}}

    listed = [
        entry("a", "openai/a", "K1"),
        entry("a", "openai/a", "K2"),
        entry("b", "openai/b", "K1"),
        entry("a", "openai/a-2024", "K1"),
        entry("a", "openai/a", "K1"),
    ]
    migration = migrated({"model_list": listed})
    assert {name: p["models"] for name, p in migration.mesh["providers"].items()} == {
        "openai/1": ["a", "b"],
        "openai/2": ["a"],
        "openai/3": ["a"],
    }
    assert migration.mesh["providers"]["openai/3"]["model_map"] == {"a": "a-2024"}
    assert any(note.what == "model_list[4]" and "left out" in note.why for note in migration.notes)


def test_an_order_goes_before_no_order() -> None:
    listed = [
        {"model_name": "m", "litellm_params": {"model": "openai/a"}},
        {"model_name": "m", "litellm_params": {"model": "anthropic/b", "order": 2}},
    ]
    providers = migrated({"model_list": listed}).mesh["providers"]
    assert providers["anthropic"]["priority"] < 100
    assert "priority" not in providers["openai"]


def test_a_deployment_without_a_key_has_the_one_that_litellm_would_take() -> None:
    assert one({"model": "gemini/x"}).mesh["providers"]["gemini"]["api_key"] == "${GEMINI_API_KEY}"
    assert "api_key" not in one({"model": "ollama/x"}).mesh["providers"]["ollama"]
    assert one({"model": "azure/x"}).mesh["providers"]["azure"]["endpoint"] == "${AZURE_API_BASE}"


def test_only_the_whole_wildcard_is_carried_over() -> None:
    listed = [
        {"model_name": "*", "litellm_params": {"model": "openai/*"}},
        {"model_name": "anthropic/*", "litellm_params": {"model": "anthropic/*"}},
    ]
    migration = migrated({"model_list": listed})
    assert {name: p["models"] for name, p in migration.mesh["providers"].items()} == {"openai": ["*"]}
    assert [note.what for note in migration.notes if note.kind == "lost"] == [
        "model_list[1].litellm_params.model"
    ]


def test_prices_and_capabilities_go_to_the_catalogue_exactly() -> None:
    info = {
        "input_cost_per_token": 7.5e-08,
        "output_cost_per_token": "3e-07",
        "max_input_tokens": 128_000,
        "supports_vision": True,
        "base_model": "azure/gpt-4o-mini",
    }
    mesh = one({"model": "azure/prod", "cache_read_input_token_cost": 0}, model_info=info).mesh
    assert mesh["services"]["catalogue"]["models"] == {
        "azure:prod": {
            "same_as": "gpt-4o-mini",
            "prices": {"input": "0.075", "output": "0.3", "cache_read": "0"},
            "context_tokens": 128_000,
            "vision": True,
        }
    }


# Settings


def test_an_alias_is_a_further_name_wherever_its_model_is() -> None:
    listed = [{"model_name": "m", "litellm_params": {"model": f"{p}/x"}} for p in ("openai", "groq")]
    mesh = migrated({"model_list": listed, "router_settings": {"model_group_alias": {"alias": "m"}}}).mesh
    for provider in mesh["providers"].values():
        assert provider["models"] == ["m", "alias"]
        assert provider["model_map"] == {"m": "x", "alias": "x"}


@pytest.mark.parametrize(
    ("params", "router", "settings", "timeout_ms", "deadline_s"),
    [
        ({"timeout": 5}, {"timeout": 7}, {"request_timeout": 9}, 5_000, None),
        ({}, {"timeout": 7.5}, {"request_timeout": 9}, 7_500, None),
        ({}, {}, {"request_timeout": "900"}, 900_000, 900),
        ({}, {}, {}, None, None),
        ({"timeout": "os.environ/T"}, {}, {}, None, None),
        ({"timeout": -1}, {}, {}, None, None),
    ],
)
def test_time_outs_are_the_nearest_ones(
    params: Any, router: Any, settings: Any, timeout_ms: int | None, deadline_s: int | None
) -> None:
    listed = [{"model_name": "m", "litellm_params": {"model": "openai/x", **params}}]
    mesh = migrated({"model_list": listed, "router_settings": router, "litellm_settings": settings}).mesh
    assert mesh["providers"]["openai"].get("timeout_ms") == timeout_ms
    assert mesh["server"].get("deadline_s") == deadline_s


def test_without_a_master_key_the_gateway_stays_on_this_machine() -> None:
    migration = one({"model": "openai/x"})
    assert "host" not in migration.mesh["server"]
    assert "pipeline" not in migration.mesh
    assert any("nobody authenticates" in note.why for note in migration.notes)


def test_with_a_master_key_its_holder_is_the_operator() -> None:
    mesh = migrated({"model_list": [], "general_settings": {"master_key": "os.environ/MK"}}).mesh
    assert mesh["server"]["host"] == "0.0.0.0"
    ((entry),) = mesh["pipeline"]
    assert entry["auth_static"]["keys"] == [{"key": "${MK}", "subject": "master", "scopes": ["admin"]}]


def test_what_waits_is_kept_as_a_comment_with_what_was_said() -> None:
    migration = migrated({"model_list": [], "router_settings": {"fallbacks": [{"a": ["b"]}]}})
    text = render(migration, made_by="x")
    assert '#   fallback     router_settings.fallbacks: [{"a": ["b"]}]' in text
    assert yaml.safe_load(text) == migration.mesh


def test_what_is_off_is_not_lost() -> None:
    off = {
        "litellm_settings": {"cache": False, "drop_params": False},
        "general_settings": {"enable_jwt_auth": False},
    }
    assert migrated({"model_list": [], **off}).complete


def test_a_setting_that_nobody_knows_is_lost_and_its_value_not_shown() -> None:
    migration = migrated(
        {"model_list": [], "general_settings": {"some_token": "s3cr3t"}, "new_section": {"k": "s3cr3t"}}
    )
    assert [note.what for note in migration.notes if note.kind == "lost"] == [
        "general_settings.some_token",
        "new_section",
    ]
    assert "s3cr3t" not in repr(migration)


# Secrets


def test_a_secret_in_the_file_becomes_a_variable_that_means_nothing_else() -> None:
    def entry(name: str, **params: Any) -> dict[str, Any]:
        return {"model_name": name, "litellm_params": {"model": "openai/x", **params}}

    listed = [
        entry("literal", api_key="sk-one"),
        entry("environment", api_key="os.environ/OPENAI_API_KEY"),
        entry("again", api_key="sk-one"),
        entry("other", api_key="sk-two"),
        entry("implied"),
    ]
    migration = migrated({"model_list": listed})
    keys = {p["api_key"]: p["models"] for p in migration.mesh["providers"].values()}
    assert keys == {
        "${OPENAI_API_KEY}": ["environment", "implied"],
        "${OPENAI_API_KEY_2}": ["literal", "again"],
        "${OPENAI_API_KEY_3}": ["other"],
    }
    assert "sk-" not in repr(migration)


def test_headers_are_secrets() -> None:
    params = {
        "model": "openai/x",
        "extra_headers": {"X-Key": "s3cr3t", "X-Ref": "os.environ/REF", "X-Empty": ""},
    }
    migration = one(params)
    assert migration.mesh["providers"]["openai"]["headers"] == {"X-Key": "${HEADER_X_KEY}", "X-Ref": "${REF}"}
    assert "s3cr3t" not in repr(migration)


@pytest.mark.parametrize("url", ["https://u:pw@h/v1", "https://h/v1?key=pw", "https://h/#pw", "https://[bad"])
def test_an_endpoint_that_may_hold_a_secret_is_one(url: str) -> None:
    migration = one({"model": "openai/x", "api_base": url})
    ((_, provider),) = migration.mesh["providers"].items()
    assert provider["endpoint"] == "${LLM_ENDPOINT}"
    assert "pw" not in repr(migration)


def test_a_variable_that_lmg_cannot_name_is_renamed_and_said() -> None:
    migration = one({"model": "openai/x", "api_key": "os.environ/my-key"})
    assert migration.mesh["providers"]["openai"]["api_key"] == "${my_key}"
    assert any("my_key" in note.why for note in migration.notes)


# Bad input, and the command


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "config.yaml: this is no configuration of a LiteLLM proxy"),
        ("pipeline: []\n", "config.yaml:1: this is no configuration of a LiteLLM proxy"),
        ("model_list: {}\n", "config.yaml:1: model_list: this must be a list of deployments"),
        ("model_list:\n  - gpt-4o\n", "config.yaml:2: model_list[0]: an entry of model_list is a mapping"),
        (
            "model_list:\n  - litellm_params: {model: x}\n",
            "config.yaml:2: model_list[0]: model_name is missing",
        ),
        (
            "model_list:\n  - model_name: m\n",
            "config.yaml:2: model_list[0].litellm_params: litellm_params is missing",
        ),
        (
            "model_list:\n  - model_name: m\n    litellm_params:\n      api_key: sk-1\n",
            "config.yaml:3: model_list[0].litellm_params.model: model is missing",
        ),
        ("model_list: []\nrouter_settings: [1]\n", "config.yaml:2: router_settings: this must be a mapping"),
        ("model_list: [\n", "not valid YAML"),
        ("- a\n", "the configuration must be a mapping"),
        (None, "config.yaml does not exist"),
    ],
)
def test_bad_input_is_said_with_its_place(
    text: str | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("config.yaml").write_text(text)
    assert main(["import", "litellm", "config.yaml"]) == 2
    caught = capsys.readouterr()
    assert said in caught.err
    assert caught.out == ""
    assert "sk-1" not in caught.err


CONFIG = "model_list: [{model_name: m, litellm_params: {model: openai/x}}]\ngeneral_settings: {master_key: os.environ/MK}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_the_mesh_goes_to_stdout_and_the_notes_to_stderr(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG + "router_settings: {num_retries: 2}\n")
    assert main(["import", "litellm", str(config)]) == 0
    caught = capsys.readouterr()
    assert yaml.safe_load(caught.out)["providers"]["openai"]["models"] == ["m"]
    assert "router_settings.num_retries" in caught.err
    assert f"{config}:3" in caught.err.replace("\n", "")
    assert "retry" in caught.err


@pytest.mark.parametrize(
    ("more", "code"), [("", 0), ("router_settings: {num_retries: 2}\n", 1), ("litellm_settings: {x: 1}\n", 1)]
)
def test_strict_tells_whether_all_was_carried_over(
    config: Path, more: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG + more)
    assert main(["import", "litellm", str(config), "--strict"]) == code
    caught = capsys.readouterr()
    assert yaml.safe_load(caught.out)
    assert ("Everything was carried over" in caught.err) is (code == 0)


def test_a_file_is_overwritten_only_by_force(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = config.parent / "mesh.yaml"
    assert main(["import", "litellm", str(config), "--output", str(output)]) == 0
    assert capsys.readouterr().out == ""
    written = output.read_text()
    output.write_text("mine")
    assert main(["import", "litellm", str(config), "--output", str(output)]) == 2
    assert "is there already (--force overwrites it)" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert main(["import", "litellm", str(config), "--output", str(output), "--force"]) == 0
    assert output.read_text() == written
    assert main(["import", "litellm", str(config), "--output", str(config.parent / "no" / "x")]) == 2


def test_what_the_source_says_reads_as_text_whatever_it_is() -> None:
    """A name that looks like YAML of another kind stays a name."""
    for name in ("yes", "1.0", "a: b", "# c", "{d}", "multi\nline", "ü", "'", "- e", "null", "2026-01-01"):
        listed = [{"model_name": name, "litellm_params": {"model": "openai/x", "api_key": "os.environ/K"}}]
        migration = migrated({"model_list": listed})
        assert yaml.safe_load(render(migration, made_by="x")) == migration.mesh


def test_a_reference_of_ours_in_their_file_is_said() -> None:
    migration = one({"model": "openai/x", "organization": "${HOME}"})
    assert any("reads ${…}" in note.why for note in migration.notes)


def test_an_unread_source_raises_for_no_shape_of_values() -> None:
    """Whatever stands where: an error with a place, or a mesh; never a crash."""
    odd: list[Any] = [None, True, 0, "", "x", [], [[]], {}, {"a": None}, [{"a": 1}]]
    fields = [
        "api_key",
        "api_base",
        "timeout",
        "order",
        "extra_headers",
        "organization",
        "aws_region_name",
        "custom_llm_provider",
    ]
    for value in odd:
        for field in fields:
            one({"model": "openai/x", field: value})
        for section in ("router_settings", "litellm_settings", "general_settings"):
            for name in (
                "timeout",
                "model_group_alias",
                "request_timeout",
                "master_key",
                "callbacks",
                "cache",
            ):
                migrated({"model_list": [], section: {name: value}})
        for whole in (
            "model_list",
            "credential_list",
            "guardrails",
            "environment_variables",
            "general_settings",
        ):
            try:
                migrated({"litellm_settings": {}, whole: value})
            except ConfigError as error:
                assert error.path.startswith(whole)
        one({"model": "openai/x"}, model_info=value)
