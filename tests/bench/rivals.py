# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection is compared with: playbooks that gather the same facts otherwise, and the answers the lab gives them.

Each choice favours the rival. Both only gather: no feed, no organisation, no comparison, no report. The several modules read three
configuration files where the collection reads all of them, and no versions of files; the one script returns the finished facts, as if
it had understood the configuration of IIS on the server.
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from typing import Any

import yaml
from labs import Trouble

FILES = {
    "applicationHost.config": ("C:\\Windows\\System32\\inetsrv\\config\\applicationHost.config", "Windows/System32/inetsrv/config/applicationHost.config"),
    "wwwroot": ("C:\\inetpub\\wwwroot\\web.config", "inetpub/wwwroot/web.config"),
    "HttpProxy": (
        "C:\\Program Files\\Microsoft\\Exchange Server\\V15\\FrontEnd\\HttpProxy\\owa\\web.config",
        "Program Files/Microsoft/Exchange Server/V15/FrontEnd/HttpProxy/owa/web.config",
    ),
}
KEYS = {
    "ExchangeServer": "ExchangeServer\\v15\\Setup",
    "EdgeTransportRole": "ExchangeServer\\v15\\EdgeTransportRole",
    "URL Rewrite": "IIS Extensions\\URL Rewrite",
}

#: Never run: the lab has no PowerShell. It is as long as such a script is, and the lab knows it by its first line.
SCRIPT = """# facts-of-one-server
$ErrorActionPreference = 'Stop'
$setup = Get-ItemProperty 'HKLM:\\SOFTWARE\\Microsoft\\ExchangeServer\\v15\\Setup'
$os = Get-CimInstance Win32_OperatingSystem
$service = Get-CimInstance Win32_Service -Filter "Name='MSExchangeMitigation'"
$exe = Join-Path $setup.MsiInstallPath 'Bin\\ExSetup.exe'
$rules = foreach ($path in '/', '/owa', '/ecp', '/EWS', '/Autodiscover', '/Microsoft-Server-ActiveSync', '/OAB', '/PowerShell', '/mapi') {
    $place = "MACHINE/WEBROOT/APPHOST/Default Web Site$path"
    foreach ($kind in 'rules', 'outboundRules') {
        Get-WebConfiguration -PSPath $place -Filter "system.webServer/rewrite/$kind/rule" | ForEach-Object {
            @{ path = $path; kind = $kind; name = $_.name; enabled = $_.enabled; match = $_.match.url; action = $_.action.type }
        }
    }
}
@{
    name = $env:COMPUTERNAME; os = $os.Caption; build = (Get-Item $exe).VersionInfo.FileVersion
    service = @{ state = $service.State; mode = $service.StartMode }; rules = $rules
}
"""


def fetch_collection(folder: pathlib.Path) -> str:
    """Get ansible.windows out of the PyPI package ansible that belongs to this ansible-core; returns the collections path."""
    target = folder / "ansible_collections" / "ansible" / "windows"
    if not target.is_dir():
        minor = int(importlib.metadata.version("ansible-core").split(".")[1])
        wanted = f"ansible=={minor - 7}.*"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), wanted]
        if subprocess.run(command, check=False).returncode:
            raise Trouble(f"pip could not download {wanted}, which carries ansible.windows")
        for wheel in folder.glob("ansible-*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder, [name for name in archive.namelist() if name.startswith("ansible_collections/ansible/windows/")])
            wheel.unlink()
    return str(folder)


def _book(folder: pathlib.Path, name: str, tasks: list[dict[str, Any]]) -> str:
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump([{"hosts": "exchange_servers", "gather_facts": False, "tasks": tasks}], sort_keys=False), "utf-8")
    return str(path)


def several_modules(folder: pathlib.Path) -> str:
    """Write the playbook of several ansible.windows modules."""
    tasks: list[dict[str, Any]] = [{"name": "setup", "ansible.windows.setup": {"gather_subset": ["!all", "!min", "distribution", "env"]}}]
    tasks += [{"name": f"key {name}", "ansible.windows.win_reg_stat": {"path": f"HKLM:\\SOFTWARE\\Microsoft\\{key}"}} for name, key in KEYS.items()]
    tasks.append({"name": "service", "ansible.windows.win_service_info": {"name": "MSExchangeMitigation"}})
    for number, (name, (windows, dummy)) in enumerate(FILES.items()):
        tasks.append({"name": f"file {name}", "ansible.windows.slurp": {"src": windows}, "register": f"file_{number}"})
    return _book(folder, "several", tasks)


def one_script(folder: pathlib.Path) -> str:
    """Write the playbook of one win_powershell task."""
    return _book(folder, "script", [{"name": "facts", "ansible.windows.win_powershell": {"script": SCRIPT}, "register": "facts"}])


def nothing(folder: pathlib.Path) -> str:
    """Write the playbook of one task that does nothing: what Ansible itself costs."""
    action = folder / "action_plugins" / "nothing.py"
    action.parent.mkdir(exist_ok=True)
    action.write_text(
        "from ansible.plugins.action import ActionBase\n\n\nclass ActionModule(ActionBase):\n    def run(self, tmp=None, task_vars=None):\n"
        "        return super().run(tmp, task_vars)\n",
        "utf-8",
    )
    return _book(folder, "nothing", [{"name": "nothing", "nothing": {}}])


def facts_only(folder: pathlib.Path) -> str:
    """Write the playbook that gathers with the collection and does nothing else: the organisation once, every server."""
    path = folder / "facts.yml"
    tasks: list[dict[str, Any]] = [
        {"name": "organization", "exchange.mitigation.organization_info": {}, "run_once": True, "register": "read"},
        {"name": "server", "exchange.mitigation.server_info": {"organization_variable": "read.organization"}, "register": "facts"},
    ]
    path.write_text(yaml.safe_dump([{"hosts": "exchange_servers", "gather_facts": False, "tasks": tasks}], sort_keys=False), "utf-8")
    return str(path)


def answers(path: pathlib.Path, host: Mapping[str, Any], server: Mapping[str, Any]) -> None:
    """Write the canned answers: what the modules return for a server whose C: is ``lab_files`` and whose facts are ``server``."""
    drive = pathlib.Path(host["lab_files"])
    rows: list[tuple[str, dict[str, Any]]] = [
        ("facts-of-one-server", {"changed": False, "host_out": "", "host_err": "", "output": [dict(server)], "result": {},
                                 "error": [], "warning": [], "verbose": [], "debug": [], "information": []}),
        ("MSExchangeMitigation", {"changed": False, "exists": True, "services": [
            {"name": "MSExchangeMitigation", "display_name": "Microsoft Exchange Emergency Mitigation Service", "state": "started", "start_mode": "auto",
             "username": "NT AUTHORITY\\SYSTEM", "path": "MSExchangeMitigation.exe", "dependencies": [], "depended_by": []}]}),
        ("gather_subset", {"changed": False, "ansible_facts": {"ansible_" + name: value for name, value in dict(server.get("os") or {}).items()}}),
    ]
    for name, (windows, below) in FILES.items():
        rows.append((name, {"changed": False, "content": base64.b64encode(_file(drive, below)).decode("ascii"), "encoding": "base64", "source": windows}))
    for name in KEYS:
        values = {"MsiInstallPath": "C:\\Program Files", "Version": "1.0"}
        properties = {key: {"raw_value": value, "type": "REG_SZ", "value": value} for key, value in values.items()}
        rows.append((name, {"changed": False, "exists": True, "properties": properties, "sub_keys": []}))
    path.write_text(json.dumps(rows), "utf-8")


def _file(drive: pathlib.Path, below: str) -> bytes:
    """Return a file of the server; names are compared as Windows does."""
    place = drive
    for part in below.split("/"):
        place = next((item for item in place.iterdir() if item.name.lower() == part.lower()), place / part)
    return place.read_bytes()
