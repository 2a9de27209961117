# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set-WebConfigurationProperty, for the one property that the lab lets be set: autoStart of an application pool (CMDLETS.md 5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lab.files import FileProblem
from lab.kernel import Invocation, LabRefusal, Parameter, Terminating, cmdlet
from lab.providers import INVALID_ARGUMENT, NOT_SPECIFIED, UNLISTED, exception_of, record
from lab.services import PoolProblem

_ROOT = "MACHINE/WEBROOT/APPHOST"
_CLASS = "Microsoft.IIs.PowerShell.Provider.SetConfigurationPropertyCommand"
_FILE = "%windir%\\System32\\inetsrv\\config\\applicationHost.config"
_POOL = re.compile(r"^/?system\.applicationHost/applicationPools/add\[@name='([^']+)'\]$", re.IGNORECASE)


def with_auto_start(data: bytes, pool: str, value: bool) -> bytes:
    """Return applicationHost.config with the attribute set on the pool's element; everything else stays as it is."""
    section = re.search(rb"<applicationPools>.*?</applicationPools>", data, re.DOTALL)
    if section is None:
        raise LabRefusal("applicationHost.config has no applicationPools")
    for tag in re.finditer(rb"<add\s[^>]*>", section.group()):
        if re.search(rb'\sname="' + re.escape(pool.encode()) + rb'"', tag.group(), re.IGNORECASE) is None:
            continue
        text = b"true" if value else b"false"
        made, count = re.subn(rb'(\sautoStart=")[^"]*(")', rb"\g<1>" + text + rb"\g<2>", tag.group())
        if not count:
            made = re.sub(rb'(\sname="[^"]*")', rb'\g<1> autoStart="' + text + rb'"', tag.group(), count=1)
        start, end = section.start() + tag.start(), section.start() + tag.end()
        return data[:start] + made + data[end:]
    return data


@cmdlet(
    "Set-WebConfigurationProperty",
    {
        "Filter": Parameter("string[]", position=0, mandatory=True), "Name": Parameter(position=1, mandatory=True),
        "Value": Parameter("object", mandatory=True), "PSPath": Parameter("string[]", position=2), "Confirm": Parameter("switch"),
    },
    write=True,
    languages=UNLISTED,
)  # fmt: skip
def set_web_configuration_property(inv: Invocation) -> Iterator[Any]:
    """Set autoStart of a pool in applicationHost.config. A filter that finds nothing is a warning, no error. No output."""
    name = "Set-WebConfigurationProperty"
    if inv.get("Confirm"):
        raise LabRefusal("-Confirm would prompt, and the lab answers no prompt")
    if [path.rstrip("/") for path in inv.get("PSPath") or []] != [_ROOT]:
        raise LabRefusal(f"the lab sets properties at {_ROOT} only")
    for text in inv.get("Filter"):
        found = _POOL.match(text)
        if not found or inv.get("Name").lower() != "autostart":
            raise LabRefusal(f"the lab does not set {inv.get('Name')} of {text!r}")
        value = inv.get("Value")
        if not isinstance(value, bool):
            message = f"Invalid value '{value}' for the attribute autoStart."
            raise Terminating(record(name, "System.ArgumentException", message, INVALID_ARGUMENT, "System.ArgumentException", class_name=_CLASS))
        pools = inv.machine.pools
        try:
            pool = pools.name(found[1])
        except PoolProblem:
            continue
        pools.pin(pool)
        files = inv.machine.files
        try:
            if inv.machine.fault("disk-full"):
                # IIS commits by a new file, so the old one stays whole.
                raise FileProblem("disk-full", _FILE)
            files.write(_FILE, with_auto_start(files.read(_FILE), pool, value))
        except FileProblem as problem:
            inv.error(record(name, exception_of(problem), str(problem), NOT_SPECIFIED, exception_of(problem), _FILE, _CLASS))
    return
    yield
