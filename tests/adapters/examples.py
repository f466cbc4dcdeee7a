"""Runs the docstring examples that need a server: with one, they are tests like any other."""

from __future__ import annotations

import doctest

from adapters.servers import RedisServer


def run_examples(thing: type, server: RedisServer) -> None:
    """Run all examples of a class's docstring with the server, including those that are skipped without one."""
    text = (thing.__doc__ or "").replace("# doctest: +SKIP", "").replace("6379", str(server.port))
    examples = doctest.DocTestParser().get_doctest(text, {}, thing.__name__, None, 0)
    assert examples.examples, f"{thing.__name__} has no example"
    report: list[str] = []
    results = doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    assert not results.failed, "".join(report)
