# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every reason code that the code can return, found in its source.

A code gets into a result in one of few ways, each of which is looked for: as an argument of an exception or a refusal, as ``reason=``,
as the ``reason`` of an exception class that is raised without one, as an entry of one of the tables. Where the code is an expression
instead of a literal, the expression has to be known here (``PASSED_ON``), so that no new way stays unseen.
"""

from __future__ import annotations

import ast
import importlib
import pathlib
import re
from collections.abc import Iterator, Mapping

PLUGINS = pathlib.Path(__file__).resolve().parents[2] / "plugins"
_UTILS = "ansible_collections.exchange.mitigation.plugins.module_utils"
_CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

#: Calls that make a failure, and at which position the code stands.
POSITION = {"CmdletError": 6}
MAKERS = re.compile(r"(Error|Failure|Refused|Refusal|Aside|InvalidInput|MissingLibrary|CmdletNotAllowed|FileMoved)$")
#: Exceptions of libraries whose arguments are something else.
FOREIGN = {"WinRMTransportError", "WSManFaultError", "AnsibleError", "ClixmlError", "DerError", "RequestsError", "ValueError", "OSError"}
#: Expressions that hand on a code which was found elsewhere, or come from a table or the closed set beside it.
PASSED_ON: dict[str, tuple[str, ...]] = {
    "code": (),
    "reason": (),
    "error.reason": (),
    "exc.reason": (),
    "failure.reason": (),
    "decision.failure.reason": (),
    "failures[0].reason": (),
    "first.reason": (),
    "named.reason": (),
    "problem.reason": (),
    "understood.reason": (),
    "one.state": ("conflicting", "disabled"),
}
#: Tables whose keys are codes, and tables whose rows begin with one.
KEYS = (("_reasons", "REASONS"), ("_access", "ACCESS"))
ROWS = (("module_utils/_services.py", "RETURN_VALUES"), ("plugin_utils/_faults.py", "FAULTS"), ("plugin_utils/_faults.py", "_STATUS"),
        ("plugin_utils/_faults.py", "_ERRNO"))  # fmt: skip


def _defaults() -> dict[str, str]:
    """Return the code that an exception class has by itself, by the class's name."""
    errors = importlib.import_module(f"{_UTILS}._errors")
    found = {name: value.reason for name, value in vars(errors).items() if isinstance(value, type) and hasattr(value, "reason")}
    for path in sorted(PLUGINS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                for item in node.body:
                    if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name) and item.targets[0].id == "reason":
                        found[node.name] = ast.literal_eval(item.value)
    return found


#: The code that a class has where it is raised without one.
DEFAULTS = _defaults()


class Unseen(Exception):
    """A code is made in a way that nobody looks at."""


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _values(node: ast.expr, where: str) -> Iterator[str]:
    """Yield the codes of an expression. Raises Unseen for one that is not known."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
        return
    if isinstance(node, ast.IfExp):
        yield from _values(node.body, where)
        yield from _values(node.orelse, where)
        return
    text = ast.unparse(node)
    if text not in PASSED_ON:
        raise Unseen(f"{where}: reason {text}")
    yield from PASSED_ON[text]


def _from_call(call: ast.Call, where: str) -> Iterator[str]:
    name = _name(call)
    named = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
    if name == "Meaning":
        yield from _values(call.args[0], where)
    elif MAKERS.search(name) and name not in FOREIGN:
        place = POSITION.get(name, 1)
        given = named or call.args[place : place + 1]
        for value in given:
            yield from _values(value, where)
        if not given and name in DEFAULTS:
            yield DEFAULTS[name]
    elif named and name in ("dict", "update", "fail_json"):
        yield from _values(named[0], where)


def _from_rows(tree: ast.Module, table: str) -> Iterator[str]:
    for node in tree.body:
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id == table:
            value = node.value  # type: ignore[union-attr]
            assert isinstance(value, ast.Dict), table
            for row in value.values:
                assert isinstance(row, ast.Tuple), table
                yield from _values(row.elts[0], table)


def _of_file(path: pathlib.Path) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    relative = path.relative_to(PLUGINS).as_posix()
    defaults = {id(item) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for item in node.body}
    for node in ast.walk(tree):
        where = f"{relative}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call):
            yield from _from_call(node, where)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values):
                if isinstance(key, ast.Constant) and key.value == "reason" and isinstance(value, ast.Constant) and _CODE.fullmatch(str(value.value)):
                    yield from _values(value, where)
        elif isinstance(node, ast.Assign) and id(node) not in defaults and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "reason":
            parts = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
            if all(isinstance(part, ast.Constant) for part in parts):  # otherwise it is a sentence that is put together
                values = [str(part.value) for part in parts if isinstance(part, ast.Constant) and part.value is not None]
                yield from (value for value in values if _CODE.fullmatch(value))
        elif isinstance(node, ast.Tuple) and relative == "plugin_utils/_faults.py" and len(node.elts) in (3, 4):
            # What the functions of that file return begins with the code; the words of a sentence follow.
            first, second = node.elts[:2]
            names = isinstance(second, ast.Constant) and " " not in str(second.value)
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and _CODE.fullmatch(first.value) and not names:
                yield first.value
    for file, table in ROWS:
        if file == relative:
            yield from _from_rows(tree, table)


def codes() -> dict[str, list[str]]:
    """Return every code with the files that make it. Raises Unseen."""
    found: dict[str, set[str]] = {}
    for path in sorted(PLUGINS.rglob("*.py")):
        for code in _of_file(path):
            found.setdefault(code, set()).add(path.relative_to(PLUGINS).as_posix())
    for module, table in KEYS:
        if not (PLUGINS / "module_utils" / f"{module}.py").exists():
            continue
        for code in getattr(importlib.import_module(f"{_UTILS}.{module}"), table):
            found.setdefault(code, set()).add(f"module_utils/{module}.py")
    return {code: sorted(files) for code, files in sorted(found.items())}


def explained() -> list[tuple[str, dict[str, tuple[str, str]]]]:
    """Return the codes that a table in the code explains itself: title, and per code cause and cure."""
    reasons = importlib.import_module(f"{_UTILS}._reasons")
    titles = {
        "Documents, and what is remembered of them": reasons.VERIFY_REASONS,
        "The way to a document": reasons.FETCH_REASONS,
        "Options of the feed": reasons.OPTION_REASONS,
    }
    found = [(title, {code: (row.cause, row.cure) for code, row in table.items()}) for title, table in titles.items()]
    if (PLUGINS / "module_utils" / "_access.py").exists():
        values = {"user": "the user", "host": "NAME", "auth": "the method", "offered": "other methods", "detail": "DETAIL"}
        table = importlib.import_module(f"{_UTILS}._access").ACCESS
        rows = {code: (_sentence("The server " + row.what, values), _sentence(row.cure, values)) for code, row in table.items()}
        found.insert(0, ("Exchange's endpoint", rows))
    return found


def _sentence(text: str, values: Mapping[str, str]) -> str:
    said = text.format(**values).replace("\\", "\\\\")
    return f"{said[0].upper()}{said[1:]}."
