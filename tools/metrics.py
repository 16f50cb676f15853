"""The metrics that the code registers, read from its syntax trees: for a table of the docs."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from devstack.settings import SERVICE_PORTS

ROOT = Path(__file__).resolve().parent.parent


class Metric(NamedTuple):
    """A metric that the code registers."""

    name: str
    kind: str
    labels: tuple[str, ...]
    what: str


def metrics() -> list[Metric]:
    """Returns every metric that the chassis or a service registers, by name."""
    folders = [ROOT / "chassis", *(ROOT / f"{service}_svc" for service in SERVICE_PORTS)]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    return sorted({metric for file in files for metric in _metrics(ast.parse(file.read_text()))})


def _metrics(tree: ast.Module) -> Iterator[Metric]:
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        known = dict(_constant_tuples(function))
        for node in ast.walk(function):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="telemetry"), attr=kind),
                    args=[name, what, *labels],
                ) if kind in KINDS:
                    yield Metric(
                        name=ast.literal_eval(name),
                        kind=KINDS[kind],
                        labels=tuple(_labels(labels, known)),
                        what=ast.literal_eval(what),
                    )


def _constant_tuples(function: ast.AST) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields the variables of a function that it sets to a tuple of constants, with their value."""
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Tuple(elts=elements)) if all(
                isinstance(each, ast.Constant) for each in elements
            ):
                yield name, ast.literal_eval(node.value)


KINDS = {"counter": "counter", "gauge": "gauge", "reading": "gauge", "histogram": "histogram"}


def _labels(arguments: Sequence[ast.expr], known: dict[str, tuple[str, ...]]) -> Iterator[str]:
    for argument in arguments:
        if isinstance(argument, ast.Starred) and isinstance(argument.value, ast.Name):
            yield from known[argument.value.id]
        else:
            yield ast.literal_eval(argument)
