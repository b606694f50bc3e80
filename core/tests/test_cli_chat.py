"""`lmg chat` against a running gateway: streams, remembers, and says what went wrong."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lmg.cli import main
from lmg.testing import Cut, Harness, Wait, chat_events, sse

KEY = "sk-chat-0123456789abcdef"
LMG = (sys.executable, "-c", "import sys; from lmg.cli import main; sys.exit(main())")


@contextmanager
def running(mesh: dict[str, Any] | None = None) -> Iterator[Harness]:
    """A gateway in a thread of its own: `lmg chat` is a synchronous program."""
    gateway = Harness(mesh, models=("first-model", "second-model"))
    started, ended = threading.Event(), threading.Event()

    async def serve() -> None:
        async with gateway:
            started.set()
            while not ended.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(10)
        yield gateway
    finally:
        ended.set()
        thread.join(10)


@pytest.fixture
def gateway() -> Iterator[Harness]:
    with running() as harness:
        yield harness


def chat(gateway: Harness, *options: str) -> int:
    return main(["chat", "--url", gateway.url, *options])


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_a_prompt_is_answered_by_the_first_model(
    gateway: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(gateway, "hi") == 0
    assert capsys.readouterr().out == "Hello!\n"
    assert gateway.upstream.received[0].json["model"] == "first-model"


def test_the_model_can_be_named(gateway: Harness) -> None:
    assert chat(gateway, "--model", "second-model", "hi") == 0
    assert gateway.upstream.received[0].json["model"] == "second-model"


def test_a_conversation_is_remembered(
    gateway: Harness, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "one", "", "two")
    assert chat(gateway) == 0
    assert capsys.readouterr().out == "Hello!\nHello!\n"
    assert [(m["role"], m["content"]) for m in gateway.upstream.received[1].json["messages"]] == [
        ("user", "one"), ("assistant", "Hello!"), ("user", "two"),
    ]  # fmt: skip


def test_a_refusal_is_said_and_the_conversation_goes_on(
    gateway: Harness, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.upstream.reply({"error": {"message": "busy", "type": "t", "code": "overloaded"}}, status=503)
    gateway.upstream.stream(*chat_events("fine"))
    typed(monkeypatch, "one", "two")
    assert chat(gateway) == 0
    out, err = capsys.readouterr()
    assert out == "\nfine\n"
    assert err.startswith("503: ")
    assert len(gateway.upstream.received[1].json["messages"]) == 1, "what got no answer is not part of it"


def test_an_answer_that_breaks_off_is_said(gateway: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.upstream.stream(*chat_events("half ", "an answer")[:2], Cut())
    assert chat(gateway, "hi") == 1
    out, err = capsys.readouterr()
    assert out.strip() == "half"
    assert "broke off" in err


def test_what_a_model_writes_does_not_steer_the_terminal(
    gateway: Harness, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.upstream.stream(*chat_events("a\x1b[2Jb\x07\tc\n\x9bd"))
    assert chat(gateway, "hi") == 0
    assert capsys.readouterr().out == "a[2Jb\tc\nd\n"


def test_only_the_first_choice_is_shown(gateway: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    choices = [
        {"index": n, "delta": {"content": text}, "finish_reason": None}
        for n, text in enumerate(("shown", "hidden"))
    ]
    gateway.upstream.stream(*sse({"choices": choices}), *chat_events("")[2:])
    assert chat(gateway, "hi") == 0
    assert capsys.readouterr().out == "shown\n"


def test_no_gateway_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert main(["chat", "--url", f"http://127.0.0.1:{free.getsockname()[1]}", "hi"]) == 1
    assert "no gateway answers at" in capsys.readouterr().err


def test_an_unknown_model_is_said(gateway: Harness, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat(gateway, "-m", "nothing", "hi") == 1
    assert "404" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1", "127.0.0.1:8080", "http://", "http://user:pass@127.0.0.1"]
)
def test_a_wrong_address_is_exit_code_2(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--url", url, "hi"]) == 2
    assert "pass" not in capsys.readouterr().err


def test_a_key_with_a_line_break_in_it_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMG_KEY", "sk-very\nsecret")
    assert main(["chat", "hi"]) == 2
    assert "secret" not in capsys.readouterr().err


# -- as a program ---------------------------------------------------------------------------------


@contextmanager
def served(tmp_path: Path, mesh: str) -> Iterator[str]:
    """`lmg serve` as a process; yields its address."""
    path = tmp_path / "mesh.yaml"
    path.write_text(mesh)
    command = [*LMG, "serve", "--config", str(path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[4]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def test_the_key_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh = f"providers: {{echo: {{}}}}\npipeline: [auth_static: {{keys: [{{key: {KEY}, subject: ann}}]}}]\n"
    with served(tmp_path, mesh) as url:
        monkeypatch.delenv("LMG_KEY", raising=False)
        assert main(["chat", "--url", url, "hello there"]) == 1
        assert "LMG_KEY" in capsys.readouterr().err
        monkeypatch.setenv("OTHER", KEY)
        assert main(["chat", "--url", url, "--key-env", "OTHER", "hello there"]) == 0
        assert capsys.readouterr().out == "hello there\n"


def read_until(pipe: int, wanted: bytes, seconds: float = 20.0) -> None:
    seen = b""
    limit = time.monotonic() + seconds
    while wanted not in seen:
        ready, _, _ = select.select([pipe], [], [], max(0.0, limit - time.monotonic()))
        assert ready, f"{wanted!r} did not come after {seen!r}"
        seen += os.read(pipe, 4096)


def test_ctrl_c_ends_the_answer_and_not_the_program(gateway: Harness) -> None:
    gateway.upstream.stream(*chat_events("endless ")[:2], Wait(60.0))
    gateway.upstream.stream(*chat_events("still here"))
    command = [*LMG, "chat", "--url", gateway.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdin is not None
            assert program.stdout is not None
            answers = program.stdout.fileno()
            program.stdin.write(b"one\n")
            program.stdin.flush()
            read_until(answers, b"endless")
            program.send_signal(signal.SIGINT)
            read_until(answers, b"(ended)")
            program.stdin.write(b"two\n")
            program.stdin.close()
            read_until(answers, b"still here")
            assert program.wait(20) == 0
        finally:
            program.kill()
    first, second = gateway.upstream.received
    assert first.gone.is_set(), "the gateway was told that nobody reads on"
    assert second.json["messages"][1] == {"role": "assistant", "content": "endless "}


# -- at a terminal --------------------------------------------------------------------------------

# A session leader whose standard input becomes its controlling terminal: Ctrl-C there is a SIGINT.
AT_A_TERMINAL = "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from lmg.cli import main; sys.exit(main())"


class Terminal:
    """`lmg chat` in a pseudo-terminal, and who sits before it."""

    def __init__(self, program: subprocess.Popen[bytes], keyboard: int) -> None:
        self.program = program
        self._keyboard = keyboard
        self._shown = b""

    def type(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    def until(self, wanted: str, seconds: float = 20.0) -> str:
        """Reads on until ``wanted`` is shown; returns what was shown up to its end."""
        limit = time.monotonic() + seconds
        while (at := self._shown.find(wanted.encode())) < 0:
            ready, _, _ = select.select([self._keyboard], [], [], max(0.0, limit - time.monotonic()))
            assert ready, f"{wanted!r} did not come after {self._shown!r}"
            self._shown += os.read(self._keyboard, 4096)
        end = at + len(wanted.encode())
        shown, self._shown = self._shown[:end], self._shown[end:]
        return shown.decode()

    def press_until(self, key: str, wanted: str) -> str:
        """Presses ``key`` until ``wanted`` is shown: between two keys the line editor may miss a signal."""
        for _ in range(20):
            self.type(key)
            ready, _, _ = select.select([self._keyboard], [], [], 1.0)
            if ready:
                return self.until(wanted)
        raise AssertionError(f"{key!r} did nothing")

    def left(self) -> int:
        """The exit code."""
        return self.program.wait(20)


@contextmanager
def terminal(gateway: Harness) -> Iterator[Terminal]:
    command = [sys.executable, "-c", AT_A_TERMINAL, "chat", "--url", gateway.url]
    plain = {**os.environ, "TERM": "dumb", "INPUTRC": os.devnull}
    keyboard, screen = pty.openpty()
    try:
        with subprocess.Popen(
            command, stdin=screen, stdout=screen, stderr=screen, env=plain, start_new_session=True
        ) as program:
            try:
                yield Terminal(program, keyboard)
            finally:
                program.kill()
    finally:
        os.close(screen)
        os.close(keyboard)


def test_a_conversation_at_a_terminal_goes_on_until_ctrl_d(gateway: Harness) -> None:
    gateway.upstream.stream(*chat_events("the first ", "answer"))
    gateway.upstream.stream(*chat_events("the second ", "answer"))
    with terminal(gateway) as user:
        assert f"first-model at {gateway.url}" in user.until("> ")
        user.type("one\n")
        user.until("the first answer\r\n> ")
        user.type("two\n")
        user.until("the second answer\r\n> ")
        user.type("\x04")
        user.until("\r\n")
        assert user.left() == 0
    assert [message["content"] for message in gateway.upstream.received[1].json["messages"]] == [
        "one", "the first answer", "two",
    ]  # fmt: skip


def test_ctrl_c_at_a_terminal_ends_the_answer_and_not_the_conversation(gateway: Harness) -> None:
    gateway.upstream.stream(*chat_events("endless ")[:2], Wait(60.0))
    gateway.upstream.stream(*chat_events("still here"))
    with terminal(gateway) as user:
        user.until("> ")
        user.type("one\n")
        user.until("endless ")
        user.type("\x03")
        assert "Traceback" not in user.until("(ended)\r\n> ")
        user.type("two\n")
        user.until("still here\r\n> ")
        user.type("\x04")
        assert user.left() == 0
    assert gateway.upstream.received[0].gone.is_set(), "the gateway was told that nobody reads on"


def test_ctrl_c_at_the_prompt_drops_what_was_typed(gateway: Harness) -> None:
    with terminal(gateway) as user:
        user.until("> ")
        user.type("never mi")
        user.until("never mi")
        user.press_until("\x03", "\r\n> ")
        user.type("two\n")
        user.until("Hello!\r\n> ")
        user.type("\x04")
        assert user.left() == 0
    assert [received.json["messages"][0]["content"] for received in gateway.upstream.received] == ["two"]
