# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installation itself: leftovers away, package there and proven, installer run, its answer understood, server looked at again.

After a lost answer nothing is sent again: the server is observed and that is the answer (DESIGN.md 5).
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _msiexec, _package, _reboot, _url_rewrite
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, ConnectionFailure, MitigationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Session

#: Seconds between two tries while Windows Installer is busy.
BUSY_POLL = 15.0
#: Seconds to wait for a server to answer again after the connection broke while the installer ran.
LOST = 300.0
#: Seconds to wait until the installer service, which goes on without msiexec, has come to an end.
SETTLE = 60.0


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is to be done: ``action`` of ``_url_rewrite.action_for`` and the options that concern it."""

    action: str
    version: str
    source: str | None = None
    kind: str = _package.CONTROLLER
    data: bytes | None = None
    sha256: str | None = None
    organization: str = "Microsoft Corporation"
    proxy: str | None = None
    product: str | None = None
    busy_timeout: int = 600
    reboot: str = "never"
    reboot_timeout: int = 900


class Installer:
    """Carries out one wish on one server."""

    def __init__(self, host: Session, before: _url_rewrite.Machine, wish: Wish, progress: Callable[[str], Any], warn: Callable[[str], Any]) -> None:
        self.host = host
        self.before = before
        self.wish = wish
        self.progress = progress
        self.warn = warn
        self.exit_code: int | None = None
        self.lost: ConnectionFailure | None = None
        self.signature: dict[str, Any] | None = None
        self.sha256: str | None = None
        #: whether the installer has changed something that stays
        self.effective = False

    def run(self) -> dict[str, Any]:
        """Do it and return what to tell. Raises MitigationError; the folder on the server is removed all the same."""
        try:
            return self._run()
        except MitigationError as exc:
            exc.details.setdefault("changed", self.effective)
            raise

    def _run(self) -> dict[str, Any]:
        sweep(self.host, self.before.leftovers, self.progress, self.warn)
        if self.wish.action == "none":
            return self._told(_url_rewrite.observe(self.host), None, False)
        folder = _package.Folder(self.host, self.before.windows, _url_rewrite.FOLDER_PREFIX)
        try:
            folder.make()
            if self.wish.action != "remove":
                self._bring(folder)
            self._install(folder)
            after = self._look()
            self._judge(after, folder)
        except Exception:  # not at a timeout of the task: it ends the work, and the next run removes what is left
            self._clean(folder)
            raise
        self._clean(folder)
        wanted = self.exit_code in (_msiexec.REBOOT_REQUIRED, _msiexec.REBOOT_STARTED) or bool(set(after.pending) - set(self.before.pending))
        rebooted = self._reboot(after, wanted)
        if rebooted:
            after = _url_rewrite.observe(self.host)
            self._judge(after, None)
        return self._told(after, rebooted, wanted)

    # Steps

    def _clean(self, folder: _package.Folder) -> None:
        left = folder.remove()
        if left:
            self.warn(left)

    def _bring(self, folder: _package.Folder) -> None:
        """Put the package into the folder and prove it there."""
        wish = self.wish
        if wish.data is not None:
            folder.upload(wish.data, str(wish.source).replace("\\", "/").rpartition("/")[2], self.progress)
            expected: str | None = hashlib.sha256(wish.data).hexdigest()
        else:
            self.progress(f"letting the server take {wish.source}")
            if wish.kind == _package.URL:
                folder.fetch(str(wish.source), wish.proxy)
            else:
                folder.copy(str(wish.source), wish.kind)
            expected = wish.sha256
        self.sha256 = _package.hash_on_host(self.host, folder.package)
        _package.compare(self.sha256, expected, "The copy of the package on the server")
        self.signature = _package.check_signature(self.host, folder.package, wish.organization, str(wish.source), wish.data)
        self.progress(f"package on the server: SHA-256 {self.sha256}, signed by {wish.organization}")

    def _install(self, folder: _package.Folder) -> None:
        """Run the installer; a busy one is waited for, a repair of a product that is not there becomes an installation."""
        verbs = {"install": "/i", "upgrade": "/i", "repair": "/fvamus", "remove": "/x"}
        verb = verbs[self.wish.action]
        subject = str(self.wish.product) if verb == "/x" else folder.package
        code = self._patiently(verb, subject, folder.log)
        if verb == "/fvamus" and code == _msiexec.UNKNOWN_PRODUCT:
            self.progress("the package is of another edition than what is installed: installing it")
            code = self._patiently("/i", subject, folder.log)
        self.exit_code = code

    def _patiently(self, verb: str, subject: str, log: str) -> int | None:
        deadline = time.monotonic() + self.wish.busy_timeout
        while True:
            self.progress(f"running Windows Installer ({self.wish.action})")
            try:
                code = _msiexec.run(self.host, self.before.windows, verb, subject, log)
            except ConnectionFailure as exc:
                if not exc.details.get("change_sent"):
                    raise
                self.lost = exc
                return None
            except CmdletError as exc:
                raise ApplyError(f"Windows Installer could not be run: {exc.message}", "install_failed", fqid=exc.fqid) from exc
            if code != _msiexec.BUSY or time.monotonic() + BUSY_POLL > deadline:
                return code
            self.progress(f"Windows Installer is busy with another installation, trying again in {BUSY_POLL:g} seconds")
            time.sleep(BUSY_POLL)

    def _look(self) -> _url_rewrite.Machine:
        """Observe the server again: after a lost answer or a restart by the installer as soon as it answers."""
        if self.exit_code == _msiexec.REBOOT_STARTED and self.before.boot is not None:
            self.progress("the installer restarts the server, waiting for it")
            _reboot.wait_for_boot(self.host, self.before.boot, self.wish.reboot_timeout)
        if self.lost is None:
            return _url_rewrite.observe(self.host)
        self.progress("the connection broke while the installer ran, looking at the server")
        last: list[_url_rewrite.Machine] = []

        def settled() -> _url_rewrite.Machine | None:
            last.append(_url_rewrite.observe(self.host))
            return last[-1] if self._wanted(last[-1]) else None

        try:
            _reboot.wait_for(lambda: _url_rewrite.observe(self.host), LOST)
            return _reboot.wait_for(settled, SETTLE) or last[-1]
        except ConnectionFailure as exc:
            exc.details["change_sent"] = True
            raise

    def _wanted(self, machine: _url_rewrite.Machine) -> bool:
        state = _url_rewrite.judge(machine, self.wish.version).state
        self.effective = self.effective or machine.traces() != self.before.traces() or machine.version != self.before.version
        return state == ("absent" if self.wish.action == "remove" else "installed")

    def _judge(self, after: _url_rewrite.Machine, folder: _package.Folder | None) -> None:
        """Return where the server is as wanted, raise with the reason otherwise."""
        code = self.exit_code
        understood = _msiexec.meaning(code) if code is not None else None
        if self._wanted(after):
            if understood is not None and understood.reason is not None and code != _msiexec.UNKNOWN_PRODUCT:
                self.warn(f"Windows Installer {understood.what} (exit code {code}), but URL Rewrite is as wanted")
            if self.lost is not None:
                self.warn(f"the connection broke while the installer ran ({self.lost.message}); URL Rewrite is as wanted")
            return
        now = _url_rewrite.judge(after, self.wish.version)
        facts = {"url_rewrite": after.facts(), "exit_code": code, "action": self.wish.action}
        if understood is None:
            raise ApplyError(
                f"The connection broke while Windows Installer ran ({self.lost.message if self.lost else ''}), and it did not come to an end: {now.why}. "
                "Run the task again.", "install_interrupted", **facts,
            )  # fmt: skip
        if understood.reason is None:
            raise ApplyError(
                f"Windows Installer {understood.what} (exit code {code}), but the server is not as wanted: {now.why}. Look whether the package brings "
                f"version {self.wish.version}.", "not_effective", **facts,
            )  # fmt: skip
        why = self._log_reason(folder) if folder is not None else None
        said = f" Its log says: {why}" if why else " Its log gives no reason." if understood.reason == "install_failed" else ""
        ending = "" if said.endswith((".", "!", "?")) or not said else "."
        raise ApplyError(
            f"Windows Installer {understood.what} (exit code {code}).{said}{ending} {understood.remedy} {now.why}.", understood.reason, log_reason=why, **facts
        )

    def _log_reason(self, folder: _package.Folder) -> str | None:
        (answer,) = self.host.read([_msiexec.read_log(folder.log)])
        return _msiexec.reason_of(_msiexec.log_lines(answer))

    def _reboot(self, after: _url_rewrite.Machine, wanted: bool) -> bool:
        """Restart where the installation asks for it and the user allows it; returns whether the server was restarted."""
        if self.before.boot is not None and after.boot is not None and after.boot > self.before.boot:
            return True
        if not wanted or self.wish.reboot == "never":
            return False
        boot = after.boot or _reboot.last_boot(self.host)
        _reboot.restart(self.host, boot, self.wish.reboot_timeout, self.progress)
        return True

    def _told(self, after: _url_rewrite.Machine, rebooted: bool | None, wanted: bool) -> dict[str, Any]:
        required = wanted and not rebooted
        if required:
            self.warn("the server has to be restarted to complete this; set reboot: if_required, or restart it yourself")
        return {
            "url_rewrite": after.facts(),
            "exit_code": self.exit_code,
            "rebooted": bool(rebooted),
            "reboot_required": required,
            "pending_reboot": {"before": list(self.before.pending), "after": list(after.pending)},
            "package": {"sha256": self.sha256, "signature": self.signature} if self.sha256 else None,
        }


def sweep(host: Session, leftovers: tuple[str, ...], progress: Callable[[str], Any], warn: Callable[[str], Any]) -> None:
    """Remove folders that interrupted runs left on the server."""
    for path in leftovers:
        progress(f"removing {path}, which an interrupted run left")
        left = _package.remove_folder(host, path)
        if left:
            warn(left)


def refuse_restricted(found: _url_rewrite.Machine) -> None:
    """Raise Refused where the endpoint does not let Windows Installer be run: a JEA endpoint, by design (DESIGN.md 2)."""
    if not found.can_install:
        raise Refused(
            f"{found.name or 'This server'}: the session configuration does not offer Start-Process, so Windows Installer cannot be run through it; "
            "nothing was changed. Use url_rewrite over the default endpoint with a local administrator, not over JEA.", "endpoint_restricted",
        )  # fmt: skip
