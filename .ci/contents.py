"""Hold that the built wheel and sdist contain what they should, and nothing else: ``contents.py ARCHIVE...``."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

TOP_OF_SDIST = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "PKG-INFO", "README.md", "SECURITY.md"}
TOP_OF_SDIST |= {
    ".gitignore",
    "benchmarks",
    "docs",
    "examples",
    "hatch_build.py",
    "noxfile.py",
    "pyproject.toml",
    "src",
    "tests",
}


def tracked(folder: str) -> set[str]:
    """The files under a folder that belong to the project."""
    listed = subprocess.run(["git", "ls-files", folder], check=True, capture_output=True, text=True).stdout
    return set(listed.splitlines())


def check_wheel(path: Path) -> None:
    """The package, whole, and its metadata; one that is not for every Python has the core."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    package = {name for name in names if ".dist-info/" not in name}
    core = {name for name in package if re.fullmatch(r"syncprims/_speedups\.[\w-]+\.(so|pyd)", name)}
    assert len(core) == (not path.name.endswith("-py3-none-any.whl")), sorted(core)
    package -= core
    assert package == {name.removeprefix("src/") for name in tracked("src")}, sorted(package)
    metadata = {name.partition(".dist-info/")[2] for name in names - package - core}
    assert metadata == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}, sorted(metadata)


def check_sdist(path: Path) -> None:
    """What is needed to build, to test and to read."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    top = {name.partition("/")[0] for name in names}
    assert top == TOP_OF_SDIST, sorted(top ^ TOP_OF_SDIST)
    wanted = {name for name in tracked(".") if name.partition("/")[0] in TOP_OF_SDIST} | {"PKG-INFO"}
    assert wanted == names, sorted(wanted ^ names)


for archive in map(Path, sys.argv[1:]):
    (check_wheel if archive.suffix == ".whl" else check_sdist)(archive)
    sys.stdout.write(f"{archive.name} contains what it should\n")
