# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cmdlets of the module WebAdministration: configuration, its files, applications and pools (CMDLETS.md 5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lab.iis_config import IisConfiguration, Site
from lab.iis_merge import Entry
from lab.iis_xml import ConfigError
from lab.kernel import I64, ErrorInfo, Invocation, LabRefusal, Obj, Parameter, Terminating, cmdlet
from lab.providers import INVALID_OPERATION, NOT_FOUND, NOT_SPECIFIED, file_info, path_not_found, record
from lab.services import PoolProblem

COM = "System.Runtime.InteropServices.COMException"
_SPACE = "Microsoft.IIs.PowerShell."
_ROOT = "MACHINE/WEBROOT/APPHOST"
_STEP = re.compile(r"^(?P<name>[\w.*-]+)(?:\[(?P<test>.*)\])?$")
_TEST = re.compile(r"""^\s*@(?P<name>\w+)\s*=\s*(?P<quote>['"])(?P<value>.*)(?P=quote)\s*$""")


def _class(name: str) -> str:
    """Return the class in an error id; for Get-WebConfiguration that of its provider."""
    known = {"Get-WebConfiguration": "Provider.GetConfigurationCommand", "Get-WebConfigFile": "Provider.GetConfigFileCommand"}
    return _SPACE + known.get(name, "Provider." + name.replace("-", "") + "Command")


def com_error(name: str, error: ConfigError) -> ErrorInfo:
    """Return the record of what the configuration reader refused."""
    return record(name, COM, error.text(), NOT_SPECIFIED, COM, class_name=_class(name))


def config_path(inv: Invocation, name: str, text: str) -> tuple[Site | None, str] | None:
    """Parse ``MACHINE/WEBROOT/APPHOST[/site[/path]]``; reports an unknown site and returns None, refuses what is no such path."""
    plain = text.replace("\\", "/").rstrip("/")
    if plain.lower().startswith("iis:/"):
        raise LabRefusal("the lab has no IIS: drive; use MACHINE/WEBROOT/APPHOST/…")
    if plain.lower() != _ROOT.lower() and not plain.lower().startswith(_ROOT.lower() + "/"):
        message = "Path doesn't belong to 'WebAdministration' provider."
        raise Terminating(record(name, "System.ArgumentException", message, NOT_SPECIFIED, "System.ArgumentException", class_name=_class(name)))
    rest = plain[len(_ROOT) :].strip("/")
    if not rest:
        return None, "/"
    site_name, dummy, path = rest.partition("/")
    try:
        return inv.machine.iis.configuration.site(site_name), "/" + path
    except KeyError:
        inv.error(path_not_found(name, text))
        return None


def typed(entry: Entry, name: str) -> Any:
    """Return an attribute as the wire has it: bool, int or text by the schema, else by its look for booleans."""
    value = entry.get(name)
    kind = entry.schema.attributes.get(name, ("", ""))[0]
    if kind == "bool" or (not kind and value.lower() in ("true", "false")):
        return value.lower() == "true"
    return int(value) if kind == "int" and re.fullmatch(r"-?\d+", value) else value


def element(entry: Entry, path: str, item_path: str, section: str | None = None) -> Obj:
    """Return a ConfigurationElement (or section): attributes, child elements and Collection as notes."""
    notes: dict[str, Any] = {}
    for name in dict.fromkeys([*entry.schema.attributes, *entry.attributes]):
        notes[name] = typed(entry, name)
    for name in dict.fromkeys([*entry.schema.children, *entry.children]):
        notes[name] = element(entry.child(name), path, f"{item_path}/{name}")
    notes["Collection"] = [element(item, path, _item_path(item_path, item)) for item in entry.items]
    notes |= {"PSPath": path, "Location": "", "ConfigurationPathType": "Location", "ItemXPath": item_path}
    framework = _SPACE + "Framework."
    props: dict[str, Any] = {
        "Attributes": [framework + "ConfigurationAttribute"] * len(entry.attributes),
        "ChildElements": [framework + "ConfigurationChildElementsCollection"] * len(entry.children),
        "ElementTagName": entry.name, "Methods": [], "Schema": framework + "ConfigurationElementSchema",
    }  # fmt: skip
    if section is None:
        return Obj((framework + "ConfigurationElement", "System.Object"), props, notes, to_string=framework + "ConfigurationElement")
    props |= {"SectionPath": "/" + section, "OverrideMode": "Inherit", "OverrideModeEffective": "Allow", "IsLocked": False}
    types = (framework + "ConfigurationSection", framework + "ConfigurationElement", "System.Object")
    return Obj(types, props, notes, to_string=framework + "ConfigurationSection")


def _item_path(parent: str, item: Entry) -> str:
    for key in ("name", "path", "key", "value"):
        if key in item.attributes:
            return f"{parent}/{item.name}[@{key}='{item.attributes[key]}']"
    return f"{parent}/{item.name}"


def _steps(text: str) -> list[tuple[str, tuple[str, str] | None]]:
    steps: list[tuple[str, tuple[str, str] | None]] = []
    for part in re.findall(r"(?:\[[^\]]*\]|[^/\[])+", text.strip("/")):
        step = _STEP.match(part)
        test = _TEST.match(step["test"]) if step and step["test"] else None
        if not step or (step["test"] and not test):
            raise LabRefusal(f"the lab does not evaluate the filter {text!r}")
        steps.append((step["name"], (test["name"], test["value"]) if test else None))
    return steps


def _walk(entry: Entry, steps: list[tuple[str, tuple[str, str] | None]], item_path: str) -> Iterator[tuple[Entry, str]]:
    if not steps:
        yield entry, item_path
        return
    (name, test), rest = steps[0], steps[1:]
    candidates = [(item, _item_path(item_path, item)) for item in entry.items]
    candidates += [(child, f"{item_path}/{child.name}") for child in entry.children.values()]
    if name != "*" and name in entry.schema.children and name not in entry.children:
        candidates.append((entry.child(name), f"{item_path}/{name}"))
    for found, place in candidates:
        if name not in ("*", found.name) or (test and found.get(test[0]) != test[1]):
            continue
        yield from _walk(found, rest, place)


def _split(configuration: IisConfiguration, text: str) -> tuple[str | None, list[tuple[str, tuple[str, str] | None]]]:
    """Return the declared section that a filter begins with (None when nobody declares it) and the steps behind it."""
    steps = _steps(text)
    declared = {name.lower(): name for name in configuration.declarations()}
    for length in range(len(steps), 0, -1):
        name = declared.get("/".join(step for step, dummy in steps[:length]).lower())
        if name:
            return name, steps[length:]
    return None, steps


@cmdlet(
    "Get-WebConfiguration",
    {"Filter": Parameter("string[]", position=0, mandatory=True), "PSPath": Parameter("string[]", position=1), "Location": Parameter()},
)
def get_web_configuration(inv: Invocation) -> Iterator[Any]:
    """The effective section or elements at a path; what IIS refuses comes as COMException text with file and line."""
    name = "Get-WebConfiguration"
    if inv.get("Location"):
        raise LabRefusal("the lab does not read with -Location")
    if not inv.get("PSPath"):
        raise LabRefusal("the lab has no current location for Get-WebConfiguration without -PSPath")
    configuration = inv.machine.iis.configuration
    for text in inv.get("PSPath"):
        for wanted in inv.get("Filter"):
            try:
                place = config_path(inv, name, text)
                if place is None:
                    continue
                site, path = place
                with configuration.reading():
                    section, steps = _split(configuration, wanted)
                    sources = configuration.sources(site, path)
                    if section is None:
                        continue
                    entry = configuration.section(section, site, path, sources)
            except ConfigError as error:
                inv.error(com_error(name, error))
                continue
            for found, item_path in _walk(entry, steps, "/" + section):
                yield element(found, text, item_path, None if steps else section)


@cmdlet("Get-WebConfigFile", {"PSPath": Parameter("string[]", position=0)})
def get_web_config_file(inv: Invocation) -> Iterator[Any]:
    """The FileInfo of a level's file, which is parsed on the way."""
    name = "Get-WebConfigFile"
    for text in inv.get("PSPath") or [_ROOT]:
        try:
            place = config_path(inv, name, text)
            if place is None:
                continue
            site, path = place
            file = inv.machine.iis.configuration.config_file(site, path)
            tree = inv.machine.iis.configuration.document(file)
        except ConfigError as error:
            inv.error(com_error(name, error))
            continue
        if tree is not None:
            yield file_info(inv.machine, file)
        else:
            folder, dummy, leaf = file.rpartition("\\")
            props = {"Name": leaf, "DirectoryName": folder, "Directory": folder, "Exists": False, "FullName": file, "Extension": ".config"}
            kind = ("System.IO.FileInfo", "System.IO.FileSystemInfo", "System.MarshalByRefObject", "System.Object")
            yield Obj(kind, dict(props), to_string=file)


@cmdlet("Get-WebApplication", {"Site": Parameter(), "Name": Parameter(position=0)})
def get_web_application(inv: Invocation) -> Iterator[Any]:
    """The applications of all sites or of one, without the root applications, as IIS's own cmdlet lists them."""
    name = "Get-WebApplication"
    configuration = inv.machine.iis.configuration
    try:
        section = configuration.section("system.applicationHost/sites", None, "/")
    except ConfigError as error:
        inv.error(com_error(name, error))
        return
    pool = section.child("applicationDefaults").get("applicationPool") or "DefaultAppPool"
    for site in section.items:
        if inv.get("Site") and site.get("name").lower() != inv.get("Site").lower():
            continue
        item_path = f"/system.applicationHost/sites/site[@name='{site.get('name')}' and @id='{site.get('id')}']"
        for app in site.items:
            path = app.get("path")
            if path == "/" or (inv.get("Name") and path.strip("/").lower() != inv.get("Name").strip("/").lower()):
                continue
            made = element(app, _ROOT, f"{item_path}/application[@path='{path}']")
            made.notes["applicationPool"] = app.attributes.get("applicationPool", pool)
            root = next((item for item in app.items if item.get("path") == "/"), None)
            made.notes["PhysicalPath"] = root.get("physicalPath") if root else ""
            made.notes["Count"] = I64(len(app.items))
            yield made


_POOL = {"Name": Parameter(position=0, mandatory=True)}


def _pool_error(name: str, problem: PoolProblem, verb: str) -> ErrorInfo:
    if problem.kind == "absent":
        message = f"Cannot find path 'IIS:\\AppPools\\{problem.name}' because it does not exist."
        return record(name, "PathNotFound", message, NOT_FOUND, "System.Management.Automation.ItemNotFoundException", problem.name, _class(name))
    message = f"The object on which you are trying to perform a {verb} operation is already {verb}ed." if verb == "start" else (
        "The object on which you are trying to perform a stop operation is already stopped.")  # fmt: skip
    kind = "System.InvalidOperationException"
    return record(name, "InvalidOperation", message, INVALID_OPERATION, kind, problem.name, _class(name))


@cmdlet("Get-WebAppPoolState", _POOL)
def get_web_app_pool_state(inv: Invocation) -> Iterator[Any]:
    """An object whose Value is Started or Stopped."""
    name = "Get-WebAppPoolState"
    try:
        state = inv.machine.pools.state(inv.get("Name"))
    except PoolProblem as problem:
        inv.error(_pool_error(name, problem, "read"))
        return
    framework = _SPACE + "Framework.CodeProperty"
    notes = {"PSPath": _ROOT, "ItemXPath": f"/system.applicationHost/applicationPools/add[@name='{inv.get('Name')}']"}
    yield Obj((framework, "System.Object"), {"Value": state}, notes, to_string=framework)


@cmdlet("Start-WebAppPool", _POOL, write=True)
def start_web_app_pool(inv: Invocation) -> Iterator[Any]:
    """Start a pool; an error when it is started already. No output."""
    try:
        inv.machine.pools.start(inv.get("Name"))
    except PoolProblem as problem:
        inv.error(_pool_error("Start-WebAppPool", problem, "start"))
    return
    yield


@cmdlet("Stop-WebAppPool", _POOL, write=True)
def stop_web_app_pool(inv: Invocation) -> Iterator[Any]:
    """Stop a pool; an error when it is stopped already. No output."""
    try:
        inv.machine.pools.stop(inv.get("Name"))
    except PoolProblem as problem:
        inv.error(_pool_error("Stop-WebAppPool", problem, "stop"))
    return
    yield
