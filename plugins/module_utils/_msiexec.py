# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows Installer: how it is called, what its exit codes mean, and why it failed according to its log.

Called as one statement whose only output is the exit code (CMDLETS.md 6, way B): the process object is held back by
Sort-Object until the process has ended, and Select-Object reads its code. No method is called, so constrained language
mode is enough. A lost connection ends msiexec, but not what the installer service has begun.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import ntpath
import re
from collections.abc import Mapping
from typing import NamedTuple

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import plain, strings
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Session, Statement, call

SUCCESS, REBOOT_REQUIRED, REBOOT_STARTED, BUSY, UNKNOWN_PRODUCT = 0, 3010, 1641, 1618, 1605


class Meaning(NamedTuple):
    """What an exit code means: the reason code of the failure (None: success), what happened, what to do."""

    reason: str | None
    what: str
    remedy: str = ""


#: Windows Installer's own list, as far as a quiet installation can end so (FACTS.md 6).
EXIT_CODES: Mapping[int, Meaning] = {
    0: Meaning(None, "succeeded"),
    3010: Meaning(None, "succeeded, the server has to be restarted"),
    1641: Meaning(None, "succeeded and the installer has begun to restart the server"),
    1602: Meaning("install_failed", "was cancelled", "Run the task again."),
    1603: Meaning("install_failed", "ended with a fatal error", "Cure that and run the task again."),
    1605: Meaning("product_unknown", "knows no such product on this server", "Give product_code as the registry's Uninstall key shows it."),
    1612: Meaning("package_unreadable", "does not find the original package", "Give the package in source."),
    1618: Meaning("installer_busy", "is busy with another installation", "Run the task again when that is done, or raise busy_timeout."),
    1619: Meaning("package_unreadable", "cannot open the package", "Fetch the package again; it is no Windows Installer package or is damaged."),
    1620: Meaning("package_unreadable", "does not accept the package as one of its own", "Fetch the package again."),
    1622: Meaning("install_failed", "cannot write its log", "Look at the free space of the system drive."),
    1625: Meaning("install_forbidden", "is forbidden to do so by a system policy", "Allow it in the policies for Windows Installer and software restriction."),
    1633: Meaning("package_unsuitable", "says that the package is not for this processor type", "Take the package for x64."),
    1638: Meaning("another_version", "says that another version of the product is installed", "Remove that with state: absent first."),
    1639: Meaning("install_failed", "does not accept its arguments", "Please report this."),
    1640: Meaning("install_forbidden", "does not install from a remote session", "Allow it in the policy for Windows Installer."),
    1642: Meaning("package_unsuitable", "says that the package is a patch for a product that is not there", "Take the full package."),
    1601: Meaning("installer_unavailable", "cannot be reached", "Look at the service msiserver of the server."),
}


def meaning(code: int) -> Meaning:
    """Return what an exit code means; an unlisted one is a failure that names its number."""
    return EXIT_CODES.get(code, Meaning("install_failed", "failed", "Cure that and run the task again."))


def statement(windows: str, verb: str, subject: str, log: str) -> Statement:
    """Return the statement: ``verb`` /i, /fvamus (repair) or /x; ``subject`` the path of a package or a product code."""
    shown = subject if verb == "/x" else f'"{subject}"'
    return (
        call("Start-Process", FilePath=ntpath.join(windows, "System32", "msiexec.exe"), ArgumentList=f'{verb} {shown} /quiet /norestart /l* "{log}"',
             Wait=True, PassThru=True),
        call("Sort-Object", Property="Id"),
        call("Select-Object", ExpandProperty="ExitCode"),
    )  # fmt: skip


def run(host: Session, windows: str, verb: str, subject: str, log: str) -> int:
    """Run Windows Installer to its end and return its exit code. Raises CmdletError, ConnectionFailure with ``change_sent``."""
    answer = host.change(statement(windows, verb, subject, log))
    value = plain(answer.objects[0]) if len(answer.objects) == 1 else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise CmdletError("msiexec.exe ran, but the server did not tell its exit code", "Start-Process", reason="answer_malformed")
    return value


def log_lines(answer: Answer) -> list[str]:
    """Return the lines of a log that was read with ``-ReadCount 0``; nothing where there is none."""
    return [line for item in answer.objects for line in strings(plain(item))]


def read_log(log: str) -> Statement:
    """The end of the log, which is UTF-16."""
    return (call("Get-Content", LiteralPath=log, Encoding="Unicode", Tail=400, ReadCount=0),)


#: ``Product: IIS URL Rewrite Module 2 -- Error 1722. There is a problem...`` or ``Error 1722. There...``, in any language:
#: a word, the number of four or five digits, a full stop, the text.
_ERROR = re.compile(r"(?:^|-- )\s*[^\W\d]+\s+(?P<number>\d{4,5})\.\s*(?P<text>\S.*)$")
#: ``Product: X -- Installation failed.`` or what a launch condition says.
_PRODUCT = re.compile(r"^[^:]{3,40}: (?P<product>.+?) -- (?P<text>\S.*)$")
#: The action that failed ends with 3 in English, German, French, Spanish and Italian alike: ``Return value 3.``
_RETURN = re.compile(r"^(?:Action ended|Aktion beendet|Action terminée|Acción finalizada|Azione terminata)\s.*?:\s(?P<action>\w+)\..*\b3\.?$")


def reason_of(lines: list[str]) -> str | None:
    """Return what a log says about why the installation failed: a numbered error, else the product's own sentence, else the action."""
    clean = [re.sub(r"^(?:MSI|DEBUG|Info)? ?\([a-z]\) \([^)]*\) \[[\d:.]+\]: ", "", line.strip().lstrip("\ufeff")) for line in lines]
    for pattern in (_ERROR, _PRODUCT):
        found = [match for line in clean if (match := pattern.search(line))]
        if found:
            numbered = f"error {found[0]['number']}: " if pattern is _ERROR else ""
            return numbered + found[0]["text"].strip()
    actions = [match["action"] for line in clean if (match := _RETURN.match(line))]
    return f"the action {actions[0]} failed" if actions else None
