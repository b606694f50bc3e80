"""What applications are really built with, against models of another dialect: only the base URL is changed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from oracle import HELLO, PERSON, PIXEL, WEATHER, answer
from pydantic import BaseModel

from lmg.testing import ScriptedUpstream

CLAUDE, GPT = "claude-sonnet-4-5", "gpt-4o"
IMAGE_URL = f"data:image/png;base64,{PIXEL}"


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@pytest.fixture(scope="module")
def oracle(background: Any) -> Iterator[ScriptedUpstream]:
    upstream = ScriptedUpstream(answer=answer)
    background.run(upstream.__aenter__())
    yield upstream
    background.run(upstream.__aexit__())


@pytest.fixture(scope="module")
def gateway(serve: Any, oracle: ScriptedUpstream) -> Iterator[Any]:
    """``claude…`` speaks Anthropic's API, ``gpt…`` OpenAI's."""
    mesh = f"""
pipeline:
  - auth_static: {{keys: [{{key: "${{MESH_KEY}}", subject: sdk}}]}}
providers:
  anthropic: {{endpoint: "{oracle.url}", api_key: sk-ant-upstream-0123, models: [{CLAUDE}]}}
  openai: {{endpoint: "{oracle.url}", api_key: sk-upstream-0123456789, models: [{GPT}]}}
"""
    with serve(mesh, environ={"MESH_KEY": "sk-e2e-0123456789abcdef"}) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_faults(oracle: ScriptedUpstream) -> Iterator[None]:
    oracle.received.clear()
    oracle.faults.clear()
    yield
    assert not oracle.faults, oracle.faults


@pytest.fixture
def sent(oracle: ScriptedUpstream) -> list[Any]:
    """What reached the upstream."""
    return oracle.received


# langchain-openai


@pytest.fixture
def langchain(gateway: Any, key: str) -> Iterator[Any]:
    from langchain_openai import ChatOpenAI

    with httpx.Client() as client:
        yield ChatOpenAI(model=CLAUDE, base_url=gateway.v1, api_key=key, max_retries=0, http_client=client)


def test_langchain_invokes_streams_and_counts(langchain: Any, sent: list[Any]) -> None:
    got = langchain.invoke([("system", "Be brief."), ("user", "Hello")])
    assert got.content == HELLO
    assert got.usage_metadata["total_tokens"] == 16
    chunks = list(langchain.stream("Hello", stream_usage=True))
    assert len(chunks) > 3
    assert "".join(chunk.content for chunk in chunks) == HELLO
    assert [request.path for request in sent] == ["/v1/messages", "/v1/messages"]


def test_langchain_calls_tools_and_reads_schemas_and_images(langchain: Any) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    def get_weather(city: str) -> str:
        """The weather of a city."""
        return city

    with_tools = langchain.bind_tools([get_weather])
    question = HumanMessage("How warm is it in Paris?")
    call = with_tools.invoke([question])
    assert [(c["name"], c["args"]) for c in call.tool_calls] == [("get_weather", {"city": "Paris"})]
    told = with_tools.invoke([question, call, ToolMessage("18", tool_call_id=call.tool_calls[0]["id"])])
    assert told.content == WEATHER
    whole = None
    for chunk in with_tools.stream([question]):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert whole.tool_calls[0]["args"] == {"city": "Paris"}
    assert langchain.with_structured_output(Person, method="json_schema").invoke("Who?") == Person(**PERSON)
    content = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": IMAGE_URL}}]
    assert langchain.invoke([HumanMessage(content)]).content == HELLO


# pydantic-ai


@pytest.fixture
async def client(gateway: Any, key: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=gateway.v1, api_key=key, max_retries=0) as made:
        yield made


def pydantic_agent(client: AsyncOpenAI, **more: Any) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return Agent(OpenAIChatModel(CLAUDE, provider=OpenAIProvider(openai_client=client)), **more)


async def test_pydantic_ai_runs_an_agent_with_a_tool(client: AsyncOpenAI, sent: list[Any]) -> None:
    agent = pydantic_agent(client, instructions="Be brief.")
    asked = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "18 degrees"

    result = await agent.run("How warm is it in Paris?")
    assert (result.output, asked) == (WEATHER, ["Paris"])
    async with agent.run_stream("How warm is it in Paris?") as streamed:
        assert await streamed.get_output() == WEATHER
    assert {request.path for request in sent} == {"/v1/messages"}


async def test_pydantic_ai_gets_a_typed_answer(client: AsyncOpenAI) -> None:
    from pydantic_ai import NativeOutput

    agent = pydantic_agent(client, output_type=NativeOutput(Person))
    assert (await agent.run("Who?")).output == Person(**PERSON)
    by_tool = pydantic_agent(client, output_type=Person)
    assert (await by_tool.run("Who?")).output == Person(**PERSON)


# openai-agents


@pytest.mark.parametrize("api", ["chat_completions", "responses"])
async def test_openai_agents_run_with_a_tool_streamed_and_not(
    client: AsyncOpenAI, sent: list[Any], api: str
) -> None:
    from agents import (
        Agent,
        ModelSettings,
        OpenAIChatCompletionsModel,
        OpenAIResponsesModel,
        RunConfig,
        Runner,
        function_tool,
    )

    kind: Any = OpenAIResponsesModel if api == "responses" else OpenAIChatCompletionsModel
    asked = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "18 degrees"

    agent = Agent("weather", instructions="Be brief.", tools=[get_weather], model=kind(CLAUDE, client))
    config = RunConfig(tracing_disabled=True, model_settings=ModelSettings(max_tokens=200))
    done = await Runner.run(agent, "How warm is it in Paris?", run_config=config)
    assert (done.final_output, asked) == (WEATHER, ["Paris"])
    streamed = Runner.run_streamed(agent, "How warm is it in Paris?", run_config=config)
    async for _ in streamed.stream_events():
        pass
    assert streamed.final_output == WEATHER
    assert {request.path for request in sent} == {"/v1/messages"}


# instructor


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_instructor_extracts_from_a_model_of_the_other_dialect(gateway: Any, key: str, mode: str) -> None:
    import instructor
    from openai import OpenAI

    client = instructor.from_openai(
        OpenAI(base_url=gateway.v1, api_key=key, max_retries=0), mode=instructor.Mode[mode]
    )
    got = client.chat.completions.create(
        model=CLAUDE,
        response_model=Person,
        max_retries=0,
        messages=[{"role": "user", "content": "Who is it?"}],
    )
    assert (got.name, got.age) == (PERSON["name"], PERSON["age"])


def test_instructor_extracts_through_the_anthropic_client_from_an_openai_model(
    gateway: Any, key: str, sent: list[Any]
) -> None:
    import instructor
    from anthropic import Anthropic

    client = instructor.from_anthropic(Anthropic(base_url=gateway.url, api_key=key, max_retries=0))
    got = client.messages.create(
        model=GPT,
        response_model=Person,
        max_retries=0,
        max_tokens=200,
        messages=[{"role": "user", "content": "Who is it?"}],
    )
    assert (got.name, got.age) == (PERSON["name"], PERSON["age"])
    assert [request.path for request in sent] == ["/v1/chat/completions"]


# llm


@pytest.mark.parametrize("options", [["--no-stream"], []])
def test_the_llm_command_prompts_a_model_of_the_other_dialect(
    gateway: Any, key: str, tmp_path: Path, options: list[str]
) -> None:
    models = [{"model_id": "mesh", "model_name": CLAUDE, "api_base": gateway.v1, "api_key_name": "mesh"}]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))
    (tmp_path / "keys.json").write_text(json.dumps({"mesh": key}))
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": "", "NO_PROXY": "*",
    }  # fmt: skip
    command = [sys.executable, "-m", "llm", "prompt", "-m", "mesh", "--no-log", *options, "Hello"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == HELLO


# the official clients, as far as their own tests do not show it already


async def test_many_clients_of_both_dialects_at_once_each_get_their_own_answer(
    gateway: Any, key: str
) -> None:
    from anthropic import AsyncAnthropic

    openai = AsyncOpenAI(
        base_url=gateway.v1,
        api_key=key,
        max_retries=0,
    )
    anthropic = AsyncAnthropic(
        base_url=gateway.url,
        api_key=key,
        max_retries=0,
    )

    async def by_openai() -> str:
        stream = await openai.chat.completions.create(
            model=CLAUDE, messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    async def by_anthropic() -> str:
        async with anthropic.messages.stream(
            model=GPT, max_tokens=99, messages=[{"role": "user", "content": "Hello"}]
        ) as stream:
            return await stream.get_final_text()

    async with openai, anthropic:
        got = await asyncio.gather(*(by_openai() for _ in range(20)), *(by_anthropic() for _ in range(20)))
    assert set(got) == {HELLO}


# Node


@pytest.fixture
def openai_node(node: Any, gateway: Any, key: str) -> Any:
    environment = {"OPENAI_BASE_URL": gateway.v1, "OPENAI_API_KEY": key, "MODEL": CLAUDE, "PIXEL": PIXEL}
    return lambda scenario: node("client.mjs", scenario, **environment)


@pytest.fixture
def anthropic_node(node: Any, gateway: Any, key: str) -> Any:
    environment = {"ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_API_KEY": key, "MODEL": GPT, "PIXEL": PIXEL}
    return lambda scenario: node("anthropic.mjs", scenario, **environment)


def test_openai_for_node_speaks_to_an_anthropic_model(openai_node: Any, sent: list[Any]) -> None:
    assert openai_node("streamWithUsage") == {"text": HELLO, "finish": "stop", "usage": 16, "error": None}
    call = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"a":"x"}'}}
    for scenario in ("tools", "streamedTools"):
        (got,) = openai_node(scenario)
        assert json.loads(got["function"].pop("arguments")) == {"a": "x"}
        assert got["function"] == {"name": call["function"]["name"]}
    assert openai_node("typedAnswer") == PERSON
    assert openai_node("image") == HELLO
    seen = openai_node("responses")
    assert seen == {
        "text": HELLO,
        "status": "completed",
        "first": "response.created",
        "last": "response.completed",
    }
    assert {request.path for request in sent} == {"/v1/messages"}


def test_anthropic_for_node_speaks_to_an_openai_model(anthropic_node: Any, sent: list[Any]) -> None:
    assert anthropic_node("chat") == {"text": HELLO, "reason": "end_turn", "usage": 11}
    streamed = anthropic_node("stream")
    assert streamed.pop("pieces") > 2
    assert streamed == {"text": HELLO, "reason": "end_turn", "usage": 5}
    assert anthropic_node("tools") == {"reason": "tool_use", "input": {"city": "Paris"}, "text": WEATHER}
    assert anthropic_node("streamedTools") == {"reason": "tool_use", "input": {"city": "Paris"}}
    assert anthropic_node("image") == HELLO
    assert {request.path for request in sent} == {"/v1/chat/completions"}


def test_anthropic_for_node_tells_errors_apart(anthropic_node: Any) -> None:
    wrong = {"raised": "AuthenticationError", "status": 401, "type": "authentication_error"}
    assert anthropic_node("wrongKey") == wrong
    assert anthropic_node("unknownModel") == {
        "raised": "NotFoundError",
        "status": 404,
        "type": "not_found_error",
    }
    assert anthropic_node("badRequest") == {
        "raised": "BadRequestError",
        "status": 400,
        "type": "invalid_request_error",
    }


# What the README shows


def test_the_readme_s_example_of_the_other_dialect_runs(gateway: Any, key: str) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert "http://127.0.0.1:8080" in example
    code = example.replace("http://127.0.0.1:8080", gateway.url).replace("a key of the gateway's", key)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == HELLO, done.stderr
