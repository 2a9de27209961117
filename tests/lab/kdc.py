# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real MIT KDC for the Kerberos tier: its own realm, database and ports in one folder, on loopback, without root.

Needs the programs of krb5-kdc and krb5-admin-server and, for ``kinit``, of krb5-user. Nothing of the system's Kerberos is read or written.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from lab.kernel import LabRefusal

REALM = "LAB.EXAMPLE"
#: Debian keeps the daemons out of the path of ordinary users.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/lib/mit/sbin", "/usr/kerberos/sbin"])
PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit", "klist")
#: The services that clients ask a ticket for at a Windows server: pywinrm HTTP, Ansible's psrp plugin WSMAN, pypsrp by itself host.
SERVICES = ("HTTP", "WSMAN", "host")


def missing() -> list[str]:
    """Return the programs that are not installed here."""
    return [name for name in PROGRAMS if program(name) is None]


def principal(user: str) -> str:
    r"""Return the principal of a user that the lab writes as ``LAB\name``."""
    return f"{user.rpartition(chr(92))[2]}@{REALM}"


class Kdc:
    """A realm that runs between ``start`` and ``stop`` (or inside ``with``).

    ``users``: name (as the lab writes it) -> password. ``hosts``: names of servers; their keys are in ``keytab``.
    ``ahead``: seconds by which the KDC's clock is ahead of this machine's (needs libfaketime).
    """

    def __init__(self, folder: str | os.PathLike[str], users: Mapping[str, str], hosts: Sequence[str], ahead: int = 0) -> None:
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.config = self.folder / "krb5.conf"
        self.keytab = self.folder / "servers.keytab"
        self.ahead = ahead
        self._users = dict(users)
        self._hosts = list(hosts)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "kdc.log"

    def environment(self, cache: str | os.PathLike[str] | None = None) -> dict[str, str]:
        """Return what a client of this realm has in its environment; ``cache`` is its file of tickets."""
        return {
            "KRB5_CONFIG": str(self.config),
            "KRB5CCNAME": f"FILE:{cache or self.folder / 'nobody.ccache'}",
            "KRB5_KTNAME": f"FILE:{self.keytab}",
            "PATH": _PATH,
        }

    def start(self) -> Kdc:
        """Make the realm and start its KDC."""
        absent = missing()
        if absent:
            raise LabRefusal(f"the programs {', '.join(absent)} are missing (Debian: krb5-kdc, krb5-admin-server, krb5-user)")
        port = _free_port()
        self._write(port)
        self._tool("kdb5_util", "create", "-s", "-r", REALM, "-P", "lab-master-key")
        requests = [f'addprinc -pw "{password}" {principal(user)}' for user, password in self._users.items()]
        requests += [f"addprinc -randkey {service}/{host}" for host in self._hosts for service in SERVICES]
        requests += [f"ktadd -q -k {self.keytab} {service}/{host}" for host in self._hosts for service in SERVICES]
        self._tool("kadmin.local", "-r", REALM, said="\n".join(requests) + "\n")
        self._process = subprocess.Popen(
            [*self._clock(), _installed("krb5kdc"), "-n", "-r", REALM, "-P", str(self.folder / "kdc.pid")],
            env=self._own(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log.open("ab"),
            start_new_session=True,
        )  # fmt: skip
        self._wait(port)
        return self

    def stop(self) -> None:
        """End the KDC."""
        if self._process is not None:
            # The group, because faketime runs the KDC as a child of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(5)
            self._process = None

    def __enter__(self) -> Kdc:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def add_service(self, name: str) -> None:
        """Make a service principal whose key no server has: what a name registered on another account amounts to."""
        self._tool("kadmin.local", "-r", REALM, said=f"addprinc -randkey {name}\n")

    def lock(self, user: str, locked: bool = True) -> None:
        """Disable a user's account, or enable it again."""
        self._tool("kadmin.local", "-r", REALM, said=f"modprinc {'-' if locked else '+'}allow_tix {principal(user)}\n")

    def ticket(self, user: str, cache: str | os.PathLike[str], lifetime: str = "10m", forwardable: bool = False) -> dict[str, str]:
        """Log a user on, as with kinit, and return the environment that has the ticket."""
        environment = self.environment(cache)
        command = [_installed("kinit"), "-l", lifetime, "-f" if forwardable else "-F", principal(user)]
        done = subprocess.run(
            command, env=os.environ | environment, input=self._users[user].encode() + b"\n", capture_output=True, check=False, timeout=30
        )
        if done.returncode:
            raise LabRefusal(f"kinit {principal(user)}: {done.stderr.decode(errors='replace').strip()}")
        return environment

    # -- the realm's files and programs

    def _write(self, port: int) -> None:
        files = self.folder
        self.config.write_text(
            f"""[libdefaults]
    default_realm = {REALM}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    forwardable = true
    kdc_timesync = 0
    udp_preference_limit = 1
    default_client_keytab_name = FILE:{files / "clients.keytab"}

[realms]
    {REALM} = {{
        kdc = 127.0.0.1:{port}
        max_retries = 1
    }}

[domain_realm]
    .lab.example = {REALM}
    lab.example = {REALM}
""",
            "utf-8",
        )
        (files / "kdc.conf").write_text(
            f"""[kdcdefaults]
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}

[realms]
    {REALM} = {{
        database_name = {files / "principal"}
        key_stash_file = {files / "stash"}
        acl_file = {files / "kadm5.acl"}
        max_life = 10h
        supported_enctypes = aes256-cts-hmac-sha1-96:normal
        default_principal_flags = +preauth,+forwardable
    }}

[logging]
    kdc = FILE:{self._log}
    default = FILE:{self._log}
""",
            "utf-8",
        )

    def _own(self) -> dict[str, str]:
        return os.environ | self.environment() | {"KRB5_KDC_PROFILE": str(self.folder / "kdc.conf")}

    def _clock(self) -> list[str]:
        if not self.ahead:
            return []
        return [_installed("faketime"), "-f", f"+{self.ahead}s"]

    def _tool(self, name: str, *arguments: str, said: str = "") -> None:
        done = subprocess.run(
            [_installed(name), *arguments], env=self._own(), input=said.encode(), capture_output=True, check=False, timeout=60
        )
        problem = done.stderr.decode(errors="replace")
        failed = [line for line in problem.splitlines() if line.startswith(("kadmin", "add_principal", "ktadd")) and "warning" not in line.lower()]
        if done.returncode or failed:
            raise LabRefusal(f"{name}: {' '.join(failed) or problem.strip()}")

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        log = self._log.read_text("utf-8", "replace")[-500:] if self._log.exists() else ""
        self.stop()
        raise LabRefusal(f"the KDC did not start: {log}")


def program(name: str) -> str | None:
    """Return the path of a program, None where it is not installed."""
    return shutil.which(name, path=_PATH)


def _installed(name: str) -> str:
    found = program(name)
    if found is None:
        raise LabRefusal(f"the program {name} is missing")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
