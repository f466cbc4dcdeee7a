"""The machine and the interpreter of the figures."""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FILE = "machines.json"
PEERS = (
    "aiologic",
    "atomicx",
    "cereggii",
    "fasteners",
    "filelock",
    "joblib",
    "loky",
    "more-executors",
    "mpire",
    "pebble",
    "prometheus-client",
    "readerwriterlock",
)


def describe() -> dict[str, str]:
    """Describe everything that the figures depend on."""
    switches = sysconfig.get_config_var("CONFIG_ARGS") or ""
    built = [word for word in ("--enable-optimizations", "--with-lto", "--disable-gil") if word in switches]
    return {
        "python": sys.version.split()[0],
        "build": " ".join([*built, *_flags()]) or "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown",
        "peers": ", ".join(filter(None, map(_with_version, PEERS))) or "none",
    }


def load(folder: Path) -> dict[str, dict[str, str]]:
    """Load the facts about the machine of each interpreter's figures."""
    path = folder / FILE
    found: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def keep(folder: Path, python: str) -> None:
    """Keep that this machine has measured this interpreter, also the peers of groups that were measured before."""
    before, now = load(folder), describe()
    peers = [*before.get(python, {}).get("peers", "none").split(", "), *now["peers"].split(", ")]
    newest = {name: peer for peer in peers if peer != "none" for name in [peer.partition(" ")[0]]}
    now["peers"] = ", ".join(newest[name] for name in sorted(newest)) or "none"
    every = before | {python: now}
    (folder / FILE).write_text(json.dumps(every, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _flags() -> list[str]:
    flags = (sysconfig.get_config_var("PY_CFLAGS") or "").split()
    return [flag for flag in flags if flag.startswith("-O")][-1:]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _with_version(peer: str) -> str:
    try:
        return f"{peer} {version(peer)}"
    except PackageNotFoundError:
        return ""
