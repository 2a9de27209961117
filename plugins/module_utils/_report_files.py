# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage report, its end: one report in every form, as files in a folder on the controller.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import json
import os
import pathlib
import stat
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._local_files import replace
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._report import recognised, to_json
from ansible_collections.exchange.mitigation.plugins.module_utils._report_csv import to_csv
from ansible_collections.exchange.mitigation.plugins.module_utils._report_html import to_html
from ansible_collections.exchange.mitigation.plugins.module_utils._report_metrics import to_metrics

#: Per form the name of its file and what renders it.
FORMS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "html": ("report.html", to_html),
    "csv": ("report.csv", to_csv),
    "json": ("report.json", to_json),
    "metrics": ("metrics.prom", to_metrics),
}


def decide(task: Task) -> Decision:
    """Render the forms that are asked for; the effect writes those that differ from what is there. Raises InvalidInput."""
    # A variable's own value carries Ansible's marks, which no renderer has to know.
    report = json.loads(json.dumps(task.params["report"], default=str))
    if not recognised(report):
        raise InvalidInput("The report is not what exchange.mitigation.report_rows returns.", "invalid_arguments")
    mode, folder_mode = _bits("mode", task.params["mode"]), _bits("directory_mode", task.params["directory_mode"])
    folder = pathlib.Path(os.path.abspath(task.params["path"]))
    forms = {name: FORMS[name] for name in FORMS if name in task.params["formats"]}
    made = {folder / file: render(report).encode("utf-8", "replace") for file, render in forms.values()}
    differing = [path for path, data in made.items() if _held(path, mode) != data]

    def effect() -> dict[str, Any]:
        try:
            _make(folder, folder_mode)
            for path in differing:
                replace(path, made[path], mode)
        except OSError as exc:
            message = f"{exc.filename or folder} cannot be written: {exc.strerror}. Every file is whole, the new one or the one from before."
            raise InvalidInput(message, "output_unwritable") from exc
        return {}

    result = {"files": {name: str(folder / file) for name, (file, dummy) in forms.items()}, "written": [str(path) for path in differing]}
    return Decision(result, changed=bool(differing), effect=effect if differing else None)


def _bits(option: str, value: Any) -> int:
    """Return the bits of a mode, which is a number or its octal digits."""
    try:
        bits = int(value, 8) if isinstance(value, str) else int(value)
    except (TypeError, ValueError):
        bits = -1
    if isinstance(value, bool) or not 0 <= bits <= 0o7777:
        raise InvalidInput(f"{option}: {value!r} is no octal mode such as '0640'.", "invalid_arguments")
    return bits


def _held(path: pathlib.Path, mode: int) -> bytes | None:
    """Return what a regular file of this mode holds, None for anything else: it is replaced."""
    try:
        info = path.lstat()
        return path.read_bytes() if stat.S_ISREG(info.st_mode) and stat.S_IMODE(info.st_mode) == mode else None
    except OSError:
        return None


def _make(folder: pathlib.Path, mode: int) -> None:
    """Make a folder and those above it that are not there; one that is there keeps its mode."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(exist_ok=True)
        place.chmod(mode)
