"""The process in which llama.cpp's server runs; ``embedded`` starts it.

One JSON object on the command line, the port on standard output when the server listens, everything else in the log.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
from typing import Any, Final

OWNER_CHECK_S: Final = 0.5
LOG_LIMIT_BYTES: Final = 1 << 20

# The model's own template adds a system prompt that names its maker; with it this small, coarsely quantized model
# answers in broken French. Plain ChatML, which it was trained on, makes it answer the question.
CHAT_TEMPLATE: Final = "chatml"

# For requests that bring no sampling of their own: at llama.cpp's 0.8 one answer in eight was wrong, here none.
TEMPERATURE: Final = 0.2
TOP_P: Final = 0.9

# Longest text for /v1/embeddings: pooling wants it in one physical batch, and the buffers grow with that.
EMBEDDING_BATCH_TOKENS: Final = 1024

PR_SET_PDEATHSIG: Final = 1
LOG_ERRORS_ONLY: Final = 1


def main(arguments: str) -> None:
    settings: dict[str, Any] = json.loads(arguments)
    end_with_owner(settings["owner_pid"])
    # Libraries may print; only the port belongs on the pipe.
    report = os.dup(1)
    os.dup2(2, 1)
    try:
        server = serve(settings)
    except RuntimeError as error:
        # llama.cpp has said why in the lines above; a traceback would push them out of the caller's error.
        sys.exit(f"model {settings['model_path']}: {error}")
    with os.fdopen(report, "w") as pipe:
        pipe.write(f"{server.listening_address.rpartition(':')[2]}\n")
    # SIGTERM and SIGKILL end the process; nothing here needs tidying up.
    threading.Event().wait()


def serve(settings: dict[str, Any]) -> Any:
    """llama.cpp's server object, listening on a loopback port from the system; it runs on threads of its own."""
    llama: Any = importlib.import_module("xllamacpp")
    params = llama.CommonParams()
    params.model.path = settings["model_path"]
    params.model_alias = {settings["model_name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.verbosity = LOG_ERRORS_ONLY

    # llama.cpp divides its context among the slots.
    params.n_ctx = settings["context_tokens"] * settings["parallel"]
    params.n_parallel = settings["parallel"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.fit_params = False  # sizes are given; probing devices costs start-up time
    params.cache_ram_mib = 0  # the default lets prompts of the past take 8 GiB

    params.chat_template = CHAT_TEMPLATE
    params.sampling.temp = TEMPERATURE
    params.sampling.top_p = TOP_P
    if settings["embeddings"]:
        params.embedding = True
        params.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        params.n_batch = params.n_ubatch = min(settings["context_tokens"], EMBEDDING_BATCH_TOKENS)

    params.offline = True
    params.ui = False
    params.endpoint_slots = False  # shows the prompts of others
    params.cors_origins = ""  # no web page reads answers from here
    return llama.Server(params)


def end_with_owner(owner_pid: int) -> None:
    """Ends this process when the process that started it ends, also when that one was killed."""
    if sys.platform == "linux":
        # The kernel signals when the *thread* that started us ends: that is the owner's event loop.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=watch_owner, args=(owner_pid,), daemon=True).start()


def watch_owner(owner_pid: int) -> None:
    """The portable way, which also covers an owner that ended before the kernel was asked; bounds the log as well."""
    pause = threading.Event()
    while os.getppid() == owner_pid:
        if os.fstat(2).st_size > LOG_LIMIT_BYTES:
            os.ftruncate(2, 0)
        pause.wait(OWNER_CHECK_S)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
