# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small fleet for the tests of the wire: machines without state, a private certificate, a handful of probe cmdlets."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.kernel import I64, REGISTRY, ErrorInfo, Invocation, LabRefusal, Obj, Parameter, Terminating, cmdlet

USER, PASSWORD = "LAB\\admin", "Wire-Pass-1"


class WebAnswer:
    """What the fake IIS answers."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body
        self.headers = {"X-Probe": "yes", "Content-Type": "text/plain"}


class Iis:
    """Echoes requests; /abort resets the connection."""

    def request(self, method: str, url: str, headers: dict[str, str]) -> Any:
        """Answer a request."""
        return None if "/abort" in url else WebAnswer(200, f"{method} {url}".encode())


class Machine:
    """What the wire needs of a machine."""

    def __init__(self, name: str, tls: tuple[str, str], **more: Any) -> None:
        self.name = name
        self.fqdn = f"{name.lower()}.lab.test"
        self.users = {USER: PASSWORD, "reader@lab.test": "Other-Pass-2"}
        self.lock = threading.RLock()
        self.language_mode = "FullLanguage"
        self.iis = Iis()
        self.tls = tls
        self.ran: list[str] = []
        self.ports: dict[str, int] = {}
        for key, value in more.items():
            setattr(self, key, value)


class Fleet:
    """Machines that share an access log, faults and a session budget; the server creates them."""

    def __init__(self, machines: list[Machine]) -> None:
        self.machines = machines


def certificate(folder: pathlib.Path) -> tuple[str, str]:
    """Write a self-signed certificate for 127.0.0.1 and localhost; it is its own CA file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = (folder / "server.pem", folder / "server.key")
    files[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return str(files[0]), str(files[1])


class Handle:
    """A live file whose Replace can fail."""

    def __init__(self, name: str) -> None:
        self.lab_methods = {"Replace": self.replace, "Length": lambda: 3}
        self.name = name
        self.replaced: list[tuple[Any, ...]] = []

    def replace(self, target: str, backup: str) -> Any:
        """Replace, or fail as a locked file does."""
        if "locked" in target:
            raise Terminating(ErrorInfo("The process cannot access the file.", "IOException", 7, "System.IO.IOException", target))
        self.replaced.append((target, backup))
        return Obj(types=("System.IO.FileInfo", "System.Object"), props={"Name": target}, to_string=target)


HANDLES: dict[str, Handle] = {}


PROBES = ("get-probe", "set-probe", "stop-probe", "wait-probe", "get-bulk", "get-handle")


def unregister() -> None:
    """Take the probe cmdlets out again: other tests look at the whole registry."""
    for endpoint in ("host", "exchange"):
        for name in PROBES:
            REGISTRY.pop((endpoint, name), None)


def register() -> None:
    """Register the probe cmdlets."""
    if ("host", "get-probe") in REGISTRY:
        return

    @cmdlet(
        "Get-Probe",
        {
            "Name": Parameter(position=0),
            "Count": Parameter("int"),
            "Names": Parameter("string[]", 1),
            "Enabled": Parameter("bool"),
            "Force": Parameter("switch"),
            "Fail": Parameter("switch"),
            "Mode": Parameter(values=("Fast", "Slow")),
            "Data": Parameter("bytes"),
            "When": Parameter("datetime"),
            "Table": Parameter("hashtable"),
            "Value": Parameter("object", from_pipeline=True),
        },
        where=("host", "exchange"),
    )
    def get_probe(inv: Invocation) -> Iterator[Any]:
        inv.machine.ran.append(str(inv.get("Name", "")))
        if inv.get("Fail"):
            inv.error(ErrorInfo("It failed.", "ProbeFailed,GetProbe", 7, "System.InvalidOperationException", "thing"))
        yield from inv.input
        echo = {key: (len(value) if isinstance(value, bytes) else value) for key, value in inv.parameters.items()}
        yield Obj(types=("Lab.Probe", "System.Object"), props={**echo, "Big": I64(5), "None": None}, notes={"Note": "n"}, to_string="probe")

    @cmdlet("Set-Probe", {"Name": Parameter(mandatory=True, position=0), "Values": Parameter("mvp")}, write=True, where=("host", "exchange"))
    def set_probe(inv: Invocation) -> Iterator[Any]:
        inv.machine.ran.append("set " + inv.get("Name"))
        yield inv.get("Values")

    @cmdlet("Stop-Probe", {"Kind": Parameter(position=0)})
    def stop_probe(inv: Invocation) -> Iterator[Any]:
        inv.machine.ran.append("stop")
        kind = inv.get("Kind")
        if kind == "lab":
            raise LabRefusal("not known here")
        if kind == "bug":
            raise KeyError("bug")
        if kind == "late":
            yield "before"
        raise Terminating(ErrorInfo("The end.", "ProbeEnd", 7, "System.InvalidOperationException"))

    @cmdlet("Wait-Probe", {"Seconds": Parameter("int", 0)})
    def wait_probe(inv: Invocation) -> Iterator[Any]:
        inv.session.stopping.wait(inv.get("Seconds", 1))
        yield "waited"

    @cmdlet("Get-Bulk", {"Size": Parameter("int", 0), "Pieces": Parameter("int", 1)}, where=("host", "exchange"))
    def get_bulk(inv: Invocation) -> Iterator[Any]:
        for number in range(inv.get("Pieces", 1)):
            yield str(number % 10) * inv.get("Size")

    @cmdlet("Get-Handle", {"Name": Parameter(position=0)})
    def get_handle(inv: Invocation) -> Iterator[Any]:
        handle = HANDLES[inv.get("Name")] = Handle(inv.get("Name"))
        yield Obj(types=("System.IO.FileInfo", "System.Object"), props={"Name": handle.name}, to_string=handle.name, live=handle)
