# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fresh simulated server: its configuration, files with versions, registry, services and environment."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from lab import stock_host, stock_web
from lab.iis_config import APPLICATION_HOST
from lab.machine import Machine, OperatingSystem
from lab.services import RUNNING, STOPPED, Service
from lab.templates import Template, rewrite_module

REWRITE_VERSION = "7.2.1993"
REWRITE_PRODUCT = "{9BCA2118-F753-4A1E-BCF3-5A820729965C}"
SETUP_KEY = "HKLM:\\SOFTWARE\\Microsoft\\ExchangeServer\\v15\\Setup"
REWRITE_KEY = "HKLM:\\SOFTWARE\\Microsoft\\IIS Extensions\\URL Rewrite"
UNINSTALL_KEY = "HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\"
REWRITE_DLL = "C:\\Windows\\System32\\inetsrv\\rewrite.dll"
#: what Exchange setup leaves on its web.config files, unlike what a new file inherits
WEB_CONFIG_SDDL = (
    "O:SYG:SYD:PAI(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x1200a9;;;AU)(A;;0x1301bf;;;S-1-5-21-1004336348-1177238915-682003330-1119)"
)
PRODUCTS: dict[str, tuple[str, OperatingSystem]] = {
    "older": ("15.0", OperatingSystem("Microsoft Windows Server 2012 R2 Standard", "6.3.9600", "9600")),
    "Exchange2016": ("15.1", OperatingSystem("Microsoft Windows Server 2016 Standard", "10.0.14393", "14393")),
    "Exchange2019": ("15.2", OperatingSystem("Microsoft Windows Server 2019 Standard", "10.0.17763", "17763")),
    "ExchangeSE": ("15.2", OperatingSystem("Microsoft Windows Server 2025 Standard", "10.0.26100", "26100")),
}


@dataclasses.dataclass(frozen=True)
class Stock:
    """What kind of server to make. ``build`` as ``15.2.1748.43``; ``csp``: the header that OWA itself sends, None for none."""

    name: str
    product: str = "Exchange2019"
    build: str = "15.2.1748.43"
    url_rewrite: bool = True
    domain: str = "lab.example"
    csp: str | None = None
    os: OperatingSystem | None = None


def file_version(build: str) -> str:
    """Return ``15.02.1748.043`` for ``15.2.1748.43``, the form of Exchange's version resources."""
    major, minor, number, revision = (int(part) for part in build.split("."))
    return f"{major:02d}.{minor:02d}.{number:04d}.{revision:03d}"


def make(directory: pathlib.Path, stock: Stock, fleet: Any = None, template: Template | None = None) -> Machine:
    """Create a server in an empty directory and return it."""
    machine = Machine(directory, fleet)
    build(machine, stock, template)
    return machine


def build(machine: Machine, plan: Any, template: Template | None = None) -> None:
    """Fill an empty machine. ``plan``: a Stock, or anything with name, product, build and url_rewrite, and if it likes
    domain, csp, os, role (Mailbox, Edge, ManagementTools) and em_service (Running, Stopped, Disabled)."""
    if plan.product not in PRODUCTS:
        raise ValueError(f"the lab makes {', '.join(PRODUCTS)}, not {plan.product}")
    family, system = PRODUCTS[plan.product]
    if not plan.build.startswith(family + "."):
        raise ValueError(f"{plan.product} has builds {family}.*, not {plan.build}")
    host = template.host(plan.url_rewrite) if template else None
    if host is None:
        host = stock_host.application_host(plan.url_rewrite)
    with machine.sidecar.hold():
        domain = getattr(plan, "domain", "lab.example")
        machine.identity(name=plan.name, fqdn=f"{plan.name.lower()}.{domain}", product=plan.product, build=plan.build)
        machine.set_os(getattr(plan, "os", None) or system)
        machine.environment.update({"ExchangeInstallPath": stock_host.EXCHANGE, "COMPUTERNAME": plan.name})
        if getattr(plan, "csp", None):
            machine.sidecar.section("web")["owa_content_security_policy"] = plan.csp
        rewriting = rewrite_module(host)
        _write_files(machine, plan, host, rewriting)
        if template:
            template.write(machine)
        _own_web_configs(machine)
        _write_registry(machine, plan, rewriting)
        _add_services(machine, plan)


def open_or_make(directory: pathlib.Path, stock: Stock, fleet: Any = None) -> Machine:
    """Return the server that is in the directory, or make it."""
    return Machine(directory, fleet) if (directory / "state.json").exists() else make(directory, stock, fleet)


def _write_files(machine: Machine, stock: Any, host: bytes, url_rewrite: bool) -> None:
    files = machine.files
    for folder in ("C:\\Windows\\System32\\inetsrv\\config", "C:\\Windows\\Temp", "C:\\inetpub\\wwwroot", stock_host.EXCHANGE + "Bin",
                   stock_host.EXCHANGE + "Logging\\MitigationService", stock_host.FRONT + "bin", stock_host.FRONT + "owa\\auth",
                   "C:\\Windows\\System32\\RpcProxy"):  # fmt: skip
        files.make_folder(folder)
    files.write(APPLICATION_HOST, host)
    for folder, data in stock_web.web_configs(stock.name).items():
        files.make_folder(folder)
        files.write(folder + "\\web.config", data)
    version = file_version(stock.build)
    for name, text in (("ExSetup.exe", "Exchange Setup"), ("MSExchangeMitigation.exe", "Exchange Emergency Mitigation")):
        path = stock_host.EXCHANGE + "Bin\\" + name
        files.write(path, b"MZ lab " + name.encode())
        machine.set_version(path, FileVersion=version, ProductVersion=version, FileDescription=text, ProductName="Microsoft Exchange", CompanyName="Lab")
    if url_rewrite:
        files.write(REWRITE_DLL, b"MZ lab rewrite")
        machine.set_version(REWRITE_DLL, FileVersion="7.1.1993.2351", ProductVersion=REWRITE_VERSION, FileDescription="URL Rewrite Module", CompanyName="Lab")
    files.write(stock_host.FRONT + "SharedWebConfig.config", b"<configuration />")


def _own_web_configs(machine: Machine) -> None:
    """Give every web.config the descriptor that setup leaves."""
    for file in machine.root.rglob("web.config"):
        machine.files.set_sddl("C:\\" + "\\".join(file.relative_to(machine.root).parts), WEB_CONFIG_SDDL)


def _write_registry(machine: Machine, stock: Any, url_rewrite: bool) -> None:
    registry = machine.registry
    major, minor, number, revision = (int(part) for part in stock.build.split("."))
    registry.set(SETUP_KEY, "MsiInstallPath", stock_host.EXCHANGE)
    role = getattr(stock, "role", "Mailbox")
    if role != "ManagementTools":
        registry.set(SETUP_KEY, "Services", stock_host.EXCHANGE)
    for name, value in (("MsiProductMajor", major), ("MsiProductMinor", minor), ("MsiBuildMajor", number), ("MsiBuildMinor", revision)):
        registry.set(SETUP_KEY, name, value, "REG_DWORD")
    names = {"Mailbox": "MailboxRole", "Edge": "EdgeTransportRole", "ManagementTools": "AdminTools"}
    registry.set(f"HKLM:\\SOFTWARE\\Microsoft\\ExchangeServer\\v15\\{names[role]}", "ConfiguredVersion", stock.build)
    system = machine.os
    windows = "HKLM:\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion"
    registry.set(windows, "ProductName", system.caption.removeprefix("Microsoft "))
    registry.set(windows, "CurrentBuild", system.build)
    registry.set(windows, "CurrentBuildNumber", system.build)
    registry.set(windows, "InstallationType", "Server")
    for name, value in (("CurrentMajorVersionNumber", 10), ("CurrentMinorVersionNumber", 0), ("UBR", 6293)):
        registry.set(windows, name, value, "REG_DWORD")
    web = "HKLM:\\SOFTWARE\\Microsoft\\InetStp"
    registry.set(web, "MajorVersion", 10, "REG_DWORD")
    registry.set(web, "MinorVersion", 0, "REG_DWORD")
    registry.set(web, "VersionString", "Version 10.0")
    registry.set(web, "PathWWWRoot", "%SystemDrive%\\inetpub\\wwwroot", "REG_EXPAND_SZ")
    registry.set("HKLM:\\SOFTWARE\\Microsoft\\NET Framework Setup\\NDP\\v4\\Full", "Release", 528049, "REG_DWORD")
    registry.set("HKLM:\\SYSTEM\\CurrentControlSet\\Control\\Session Manager", "ProcessorControl", 2, "REG_DWORD")
    registry.create("HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Component Based Servicing")
    registry.create("HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\WindowsUpdate\\Auto Update")
    registry.create("HKLM:\\SOFTWARE\\Microsoft\\Updates")
    registry.set(UNINSTALL_KEY + "Microsoft Exchange v15", "DisplayName", f"Microsoft Exchange Server {stock.product.removeprefix('Exchange')}")
    registry.set(UNINSTALL_KEY + "Microsoft Exchange v15", "DisplayVersion", stock.build)
    if url_rewrite:
        registry.set(REWRITE_KEY, "Version", REWRITE_VERSION)
        registry.set(REWRITE_KEY, "Install", 1, "REG_DWORD")
        registry.set(UNINSTALL_KEY + REWRITE_PRODUCT, "DisplayName", "IIS URL Rewrite Module 2")
        registry.set(UNINSTALL_KEY + REWRITE_PRODUCT, "DisplayVersion", REWRITE_VERSION)
        registry.set(UNINSTALL_KEY + REWRITE_PRODUCT, "Publisher", "Microsoft Corporation")


def _add_services(machine: Machine, stock: Any) -> None:
    exe = stock_host.EXCHANGE + "Bin\\"
    topology = ("MSExchangeADTopology",)
    add = machine.services.add
    add(Service("RpcSs", "Remote Procedure Call (RPC)", can_stop=False, path="C:\\Windows\\system32\\svchost.exe -k rpcss -p"))
    add(Service("Netlogon", "Netlogon", kind="Win32ShareProcess", path="C:\\Windows\\system32\\lsass.exe"))
    add(Service("NetTcpPortSharing", "Net.Tcp Port Sharing Service", kind="Win32ShareProcess"))
    add(Service("WinRM", "Windows Remote Management (WS-Management)", depends=("RpcSs",), kind="Win32ShareProcess"))
    add(Service("WAS", "Windows Process Activation Service", start="Manual", depends=("RpcSs",), kind="Win32ShareProcess"))
    add(Service("W3SVC", "World Wide Web Publishing Service", depends=("WAS",), kind="Win32ShareProcess"))
    add(Service("MSExchangeADTopology", "Microsoft Exchange Active Directory Topology", depends=("Netlogon", "NetTcpPortSharing"),
                path=f'"{exe}Microsoft.Exchange.Directory.TopologyService.exe"'))  # fmt: skip
    names = {"MSExchangeIS": "Information Store", "MSExchangeServiceHost": "Service Host", "MSExchangeTransport": "Transport",
             "MSExchangeFrontEndTransport": "Frontend Transport", "MSExchangeMailboxAssistants": "Mailbox Assistants",
             "MSExchangeRPC": "RPC Client Access", "MSExchangeHM": "Health Manager"}  # fmt: skip
    for name, text in names.items():
        add(Service(name, f"Microsoft Exchange {text}", depends=topology if name != "MSExchangeHM" else ()))
    if stock.product == "Exchange2016":
        add(Service("MSExchangeUM", "Microsoft Exchange Unified Messaging", depends=topology))
        add(Service("MSExchangeUMCR", "Microsoft Exchange Unified Messaging Call Router", depends=topology))
    if stock.product == "ExchangeSE":
        add(Service("MSExchangeFlighting", "Microsoft Exchange Flighting", depends=topology))
    if _has_mitigation_service(stock.build) and getattr(stock, "role", "Mailbox") == "Mailbox":
        state = getattr(stock, "em_service", RUNNING)
        add(Service("MSExchangeMitigation", "Microsoft Exchange Emergency Mitigation Service", RUNNING if state == RUNNING else STOPPED,
                    "Disabled" if state == "Disabled" else "Automatic", topology, path=f'"{exe}MSExchangeMitigation.exe"'))  # fmt: skip
    add(Service("MSExchangePop3", "Microsoft Exchange POP3", STOPPED, "Manual", topology))


def _has_mitigation_service(build: str) -> bool:
    """EM came with 2016 CU22 (15.1.2375) and 2019 CU11 (15.2.986)."""
    major, minor, number, dummy = (int(part) for part in build.split("."))
    return (major, minor, number) >= ((15, 1, 2375) if minor <= 1 else (15, 2, 986))
