# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Invoke-CimMethod on services: a number at once, where Start-Service and Stop-Service would wait (CMDLETS.md 4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.kernel import U32, Invocation, LabRefusal, Obj, Parameter, cmdlet
from lab.providers import UNLISTED
from lab.services import RUNNING, STOPPED, ServiceProblem

#: What Win32_Service answers where the service control manager refuses.
_REFUSED = {"disabled": 14, "dependency": 13, "dependents": 3, "cannot-stop": 5}
_RESULT = ("Microsoft.Management.Infrastructure.CimMethodResult", "System.Object")


@cmdlet(
    "Invoke-CimMethod",
    {"MethodName": Parameter(mandatory=True, position=1), "InputObject": Parameter("object", from_pipeline=True)},
    write=True,
    languages=UNLISTED,
)
def invoke_cim_method(inv: Invocation) -> Iterator[Any]:
    """StartService or StopService of every service from the pipeline; other classes and methods are refused."""
    objects = [inv.get("InputObject")] if "InputObject" in inv.parameters else list(inv.input)
    method = inv.get("MethodName")
    for item in objects:
        if not isinstance(item, Obj) or not item.types or not item.types[0].endswith("/Win32_Service") or method not in ("StartService", "StopService"):
            raise LabRefusal(f"the lab does not imitate {method} of this object")
        yield Obj(_RESULT, {"ReturnValue": U32(_call(inv.machine.services, method, str(item.props["Name"]))), "PSComputerName": None})


def _call(services: Any, method: str, name: str) -> int:
    state = services.get(name).state
    if method == "StartService" and state == RUNNING:
        return 10
    if method == "StopService" and state == STOPPED:
        return 5
    if state.endswith("Pending"):
        return 5
    try:
        if method == "StartService":
            services.start(name)
        else:
            services.stop(name)
    except ServiceProblem as problem:
        return _REFUSED[problem.kind]
    return 0
