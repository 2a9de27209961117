# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the IIS configuration of a server and writes it, sanitised, with results of modules, into a folder on the controller.

Sends what server_info sends and nothing else: reading cmdlets of the collection's table. Changes nothing on the server.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _iis_config
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._observe import observe
from ansible_collections.exchange.mitigation.plugins.module_utils._options import EXCHANGE_OPTIONS, HOST_OPTIONS
from ansible_collections.exchange.mitigation.plugins.plugin_utils._controller import MODULES, ControllerAction

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import sanitize

SPEC = dict(
    argument_spec=dict(
        dest=dict(type="path", required=True),
        label=dict(type="str", required=True),
        results=dict(type="dict", required=True),
        names=dict(type="dict", default={}),
        **EXCHANGE_OPTIONS,
        **HOST_OPTIONS,
    )
)
#: Application paths that the lab's templates call by another name.
_SHORT = {"/autodiscover": "AutoD", "/microsoft-server-activesync": "EAS", "/rpc": "RPC", "/api": "Rest"}
_SITES = {"Default Web Site": "DefaultWebSite", "Exchange Back End": "ExchangeBackEnd"}


def _templates(configuration: _iis_config.Configuration) -> dict[str, str]:
    """Return file name -> path on the server, for what the lab takes as --template."""
    found = {"applicationHost.config": configuration.application_host.path}
    for site in configuration.sites:
        for application in site.applications if site.name in _SITES else ():
            name = _SHORT.get(application.path.lower(), application.path.strip("/"))
            if name and not re.fullmatch(r"[A-Za-z][A-Za-z-]*", name):
                continue
            found[f"{_SITES[site.name]}{'-' + name if name else ''}.web.config"] = configuration.file_for(site.name, application.path)
    return found


def run(task: Task) -> Decision:
    """Read, sanitise, write. Raises InvalidInput where the folder cannot be written."""
    results, label = task.params["results"], task.params["label"]
    organization = (results.get("organization") or {}).get("organization") or {}
    server = (results.get("server") or {}).get("server") or {}
    cleaner = sanitize.Sanitizer(sanitize.names_of(organization, server, label) | task.params["names"])
    folder = pathlib.Path(task.params["dest"]).expanduser() / label
    seen = observe(task.host)
    written = []
    try:
        (folder / "template").mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, value in results.items():
            (folder / f"{name}.json").write_text(json.dumps(cleaner.value(value), indent=1, sort_keys=True) + "\n", "utf-8")
            written.append(f"{name}.json")
        for name, path in _templates(seen.configuration).items() if seen.configuration is not None else ():
            known = seen.application_host if path == seen.application_host.path else seen.files.get(path.lower())
            if known is not None and known.data:
                (folder / "template" / name).write_bytes(cleaner.data(known.data))
                written.append(f"template/{name}")
    except OSError as exc:
        raise InvalidInput(f"{folder} cannot be written: {exc.strerror}") from exc
    return Decision({"folder": str(folder), "written": written, "problem": str(seen.problem) if seen.problem else None})


class ActionModule(ControllerAction):
    """Runs the recorder in the worker process, as the modules of the collection run."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the task."""
        sys.modules[MODULES + type(self).__module__.rpartition(".")[2]] = sys.modules[__name__]
        return super().run(tmp, task_vars)
