"""How the pages are built: `sphinx-build -W -n -b html docs docs/_build`."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import re
import sys
import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx import addnodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "src"))


with open(HERE.parent / "pyproject.toml", "rb") as _file:
    _project = tomllib.load(_file)["project"]

project = _project["name"]
author = _project["authors"][0]["name"]
release = version = _project["version"]
project_copyright = f"2026, {author}"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "notfound.extension",
]
exclude_patterns = ["_build"]
default_role = "py:obj"
nitpicky = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"syncprims {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_favicon = "_static/icon.svg"
html_theme_options = {
    "source_repository": f"{_project['urls']['Source']}/",
    "source_branch": "main",
    "source_directory": "docs/",
    "footer_icons": [
        {"name": name, "url": _project["urls"][name], "html": name, "class": "in-words"}
        for name in ("Source", "Issues")
    ],
}
html_use_index = html_split_index = True  # a page for each letter: all of them are eleven screens
copybutton_exclude = ".gp, .go, .linenos"  # prompts and output stay behind
notfound_urls_prefix = os.environ.get("SYNCPRIMS_PAGES_PREFIX", "/")  # below which the pages are served

autodoc_typehints = "both"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

doctest_test_doctest_blocks = "default"
doctest_default_flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE  # those of pytest, in pyproject.toml
trim_doctest_flags = True

# The modules of the standard library that the pages link to. Their names are written into an inventory at each build,
# which takes no network, and a name that Python does not have is an error as any other.
_MODULES = [
    "builtins",
    "collections.abc",
    "concurrent.futures",
    "contextlib",
    "functools",
    "itertools",
    "logging",
    "multiprocessing",
    "multiprocessing.pool",
    "os",
    "pathlib",
    "pickle",
    "queue",
    "signal",
    "sys",
    "threading",
    "time",
    "traceback",
    "types",
    "typing",
    "weakref",
]
_ELSEWHERE = {  # names whose page is not their module's
    "asyncio": "library/asyncio",
    "asyncio.Lock": "library/asyncio-sync",
    "asyncio.TaskGroup": "library/asyncio-task",
    "asyncio.to_thread": "library/asyncio-task",
    "asyncio.timeout": "library/asyncio-task",
    "asyncio.wait_for": "library/asyncio-task",
    "asyncio.run_coroutine_threadsafe": "library/asyncio-task",
    "asyncio.Barrier": "library/asyncio-sync",
    "asyncio.Condition": "library/asyncio-sync",
    "asyncio.Event": "library/asyncio-sync",
    "asyncio.Semaphore": "library/asyncio-sync",
    "asyncio.Queue": "library/asyncio-queue",
    "asyncio.create_task": "library/asyncio-task",
    "asyncio.gather": "library/asyncio-task",
    "asyncio.wait": "library/asyncio-task",
    "asyncio.ensure_future": "library/asyncio-future",
    "faulthandler": "library/faulthandler",
    "multiprocessing.Pool.apply_async": "library/multiprocessing",
    "os._exit": "library/os",
    "sys._is_gil_enabled": "library/sys",
    "sys._current_frames": "library/sys",
    "sys.remote_exec": "library/sys",  # from 3.14 on
    "asyncio.Future": "library/asyncio-future",
    "asyncio.wrap_future": "library/asyncio-future",
    "sys.monitoring": "library/sys.monitoring",
    # A lock's class is a function, or has no name, depending on the version.
    "threading.Lock.acquire": "library/threading",
    "threading.Lock.locked": "library/threading",
    "threading.Lock.release": "library/threading",
    "threading.RLock.acquire": "library/threading",
    "threading.RLock.release": "library/threading",
} | dict.fromkeys(("bytes", "dict", "frozenset", "list", "range", "set", "str", "tuple"), "library/stdtypes")


def _entries() -> Iterator[tuple[str, str, str]]:
    """Name, kind and page of everything public in the modules."""
    for name, page in _ELSEWHERE.items():
        yield name, "py:class", page
    for module_name in _MODULES:
        module = importlib.import_module(module_name)
        page = f"library/{module_name.removesuffix('.pool')}"
        yield module_name, "py:module", page
        for name, thing in inspect.getmembers(module):
            if name.startswith("_"):
                continue
            full = name if module_name == "builtins" else f"{module_name}.{name}"
            if not inspect.isclass(thing):
                yield full, "py:function" if callable(thing) else "py:data", page
                continue
            exception = issubclass(thing, BaseException)
            if module_name == "builtins":
                page = "library/exceptions" if exception else "library/functions"
            yield full, "py:exception" if exception else "py:class", page
            for method in dir(thing):
                yield f"{full}.{method}", "py:method", page


def _write_inventory(target: Path) -> str:
    lines = {}
    for name, kind, page in _entries():
        page = _ELSEWHERE.get(name, page)
        place = f"{page}.html#{'module-' if kind == 'py:module' else ''}{name} -"
        # What is imported for type checkers alone comes out of an annotation without its module.
        short = name.rpartition(".")[2] if kind == "py:class" else name
        for spelling in (name, short):
            lines.setdefault((spelling, kind), f"{spelling} {kind} 1 {place}\n")
    header = "# Sphinx inventory version 2\n# Project: Python\n# Version: 3\n"
    header += "# The remainder of this file is compressed using zlib.\n"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(header.encode() + zlib.compress("".join(lines.values()).encode()))
    return str(target)


intersphinx_mapping = {"python": ("https://docs.python.org/3", _write_inventory(HERE / "_build" / "python.inv"))}

nitpick_ignore_regex = [
    ("py:.*", r"~?(.*\.)?[A-Z](_co)?"),  # type variables
    ("py:class", r"(syncprims\._locks\.rw_lock\.)?(Reading|Writing)"),  # which the texts of read() and write() describe
    ("py:class", r"(syncprims\._locks\.queued_lock\.)?KindOfHold"),  # the same of of()
    ("py:.*", r"(redis\.)?Redis(Error)?"),  # whose pages are elsewhere
]
nitpick_ignore = [
    ("py:class", "OnError"),  # an alias, spelt out in its class's own text
    *(
        ("py:class", name) for name in ("Stated", "Runner", "WatchOptions", "WaitingThread")
    ),  # made by the library alone
    ("py:class", "BaseContext"),  # imported for type checkers alone; multiprocessing does not document it
]


def _find_elsewhere(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, contnode: nodes.TextElement
) -> nodes.Node | None:
    # A class is documented under the name that its users import it by, and the other modules' texts use that.
    target = node["reftarget"]
    if node["reftype"] == "class" and target.startswith(("syncprims.", "concurrent.futures._")):
        return contnode  # an annotation of a class that is not public, or known by another name
    if node["reftype"] != "obj":
        return None
    found = env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"syncprims.{target}", node, contnode
    )
    # In a docstring `name` may be an argument, which is nothing to link to; a name with a dot must be found.
    return found or (contnode if "." not in target else None)


def _name_bases(_app: Sphinx, _name: str, _thing: object, _options: object, bases: list[type | str]) -> None:
    # A base class has the name that its users know, and one that is internal is left out.
    public: list[type | str] = []
    for base in bases:
        module, name = getattr(base, "__module__", ""), getattr(base, "__name__", str(base))
        if module.startswith("concurrent.futures."):
            public.append(f":py:class:`concurrent.futures.{name}`")
        elif not any(part.startswith("_") for part in module.split(".")):
            public.append(base)
    bases[:] = public or [object]


def _as_written(
    _app: Sphinx, _what: str, _name: str, _thing: object, _options: object, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    # The types of a parameter specification come with their modules.
    if signature is None:
        return None
    return re.sub(r"~?(?:\w+\.)+~?(\w)", r"\1", signature) if "~" in signature else signature, returned


def _forget_new(app: Sphinx, what: str, name: str, *_rest: object) -> None:
    # What a class's __new__ returns is no news.
    if what == "class":
        app.env.current_document.autodoc_annotations.get(name, {}).pop("return", None)


def _keep_colon(_app: Sphinx, what: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    # Napoleon takes what stands before a colon in the first line of an attribute for its type. Ours stand in
    # signatures, so it gets an empty comment for a first line.
    if what in {"attribute", "data", "property"}:
        lines[:0] = ["..", ""]


def _take_changelog(_app: Sphinx, docname: str, source: list[str]) -> None:
    # CHANGELOG.md has few forms: headings, lists, links, code. What is code there and a name of ours becomes a link.
    if docname != "changelog":
        return
    text = (HERE.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    text = re.sub(
        r"`([^`]+)`", lambda code: code[0] if re.fullmatch(r"syncprims[.\w]+", code[1]) else f"`{code[0]}`", text
    )
    text = re.sub(r"\[([^]]+)\]\(([^)]+)\)", r"`\1 <\2>`__", text)
    for mark, line in (("###", "~"), ("##", "-"), ("#", "=")):
        text = re.sub(
            rf"^{mark} (.*)$", lambda found, line=line: f"{found[1]}\n{line * len(found[1])}", text, flags=re.M
        )
    source[0] = text


def _link_examples(app: Sphinx, doctree: nodes.document) -> None:
    # Wherever a program of the examples is named, its page is one click away.
    here = app.env.current_document.docname
    for literal in list(doctree.findall(nodes.literal)):
        name = re.fullmatch(r"(?:examples/)?(\w+)\.py", literal.astext())
        page = name and f"examples/{name[1]}"
        if (
            page
            and page in app.env.found_docs
            and page != here
            and not isinstance(literal.parent, addnodes.pending_xref)
        ):
            link = addnodes.pending_xref(
                "", refdomain="std", reftype="doc", reftarget=f"/{page}", refdoc=here, refexplicit=True, refwarn=True
            )
            literal.replace_self(link)
            link += nodes.inline("", "", literal.deepcopy())


# Members in the order of their use: how to get in, how to get out, what else it does, what it is, and last its hooks.
_FIRST = ["__enter__", "__call__", "__getitem__", "hold", "acquire", "release", "__exit__", "read", "write"]


def _place(member: nodes.Element) -> tuple[int, int]:
    signature = next(member.findall(addnodes.desc_signature))
    name = signature.get("fullname", "").rpartition(".")[2]
    if name in _FIRST:
        return 0, _FIRST.index(name)
    if name.startswith("_") and not name.endswith("__"):
        return 3, 0
    return (2 if member["objtype"] in {"attribute", "property"} else 1), 0


def _order_members(_app: Sphinx, doctree: nodes.document) -> None:
    for content in doctree.findall(addnodes.desc_content):
        members = [child for child in content.children if isinstance(child, addnodes.desc)]
        if len(members) > 1:
            # Each comes with the entries of the index that point to it.
            blocks = [[content[content.index(one) - 1], one] for one in members]
            for block in blocks:
                for node in block:
                    content.remove(node)
            for block in sorted(blocks, key=lambda block: _place(block[1])):
                content += block


def _frame_drawings(_app: Sphinx, doctree: nodes.document) -> None:
    # On a narrow screen a drawing is wider than the page, so it gets a frame to move it in.
    for image in list(doctree.findall(nodes.image)):
        frame = nodes.container(classes=["drawing"])
        image.replace_self(frame)
        frame += image


def setup(app: Sphinx) -> None:
    """Find names where their users know them, show public base classes alone, and take the changelog in."""
    app.connect("doctree-read", _frame_drawings)
    app.connect("doctree-read", _link_examples)
    app.connect("doctree-read", _order_members, priority=400)  # before the contents are collected
    app.connect("source-read", _take_changelog)
    app.connect("autodoc-process-docstring", _keep_colon, priority=1)
    app.connect("missing-reference", _find_elsewhere)
    app.connect("autodoc-process-bases", _name_bases)
    app.connect("autodoc-process-signature", _as_written)
    app.connect("autodoc-process-signature", _forget_new, priority=900)
