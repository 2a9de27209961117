# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python libraries that the collection needs on the controller, imported only where they are used.

Importing a file of this collection never fails for a missing library; using it gives one sentence.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import platform
import re
import sys
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MissingLibrary


@dataclasses.dataclass(frozen=True)
class Library:
    """A library: what to import, the package that brings it, the lowest version that is enough, and what else it needs.

    ``install`` is what to give pip where that is not the package itself.
    """

    module: str
    package: str
    minimum: str
    system: str = ""
    install: str = ""


#: requirements-kerberos.txt and bindep.txt have the same.
_KERBEROS = "a C compiler, the Kerberos headers (krb5-devel or libkrb5-dev) and kinit (krb5-workstation or krb5-user)"

#: By the name that use sites give. The minima equal requirements.txt.
LIBRARIES = {
    "lxml": Library("lxml.etree", "lxml", "5.0.0"),
    "cryptography": Library("cryptography.x509", "cryptography", "49.0.0"),
    "pypsrp": Library("pypsrp.powershell", "pypsrp", "0.8.0"),
    "winrm": Library("winrm.protocol", "pywinrm", "0.4.3"),
    "requests": Library("requests", "requests", "2.9.1"),
    "gssapi": Library("gssapi", "gssapi", "1.6.0", _KERBEROS, "pypsrp[kerberos]"),
    "krb5": Library("krb5", "krb5", "0.3.0", _KERBEROS, "pypsrp[kerberos]"),
}

_checked: dict[str, Any] = {}


def require(name: str) -> Any:
    """Return the module that ``name`` stands for in LIBRARIES.

    Raises MissingLibrary with one sentence: the package, the controller's Python, and how to install it.
    """
    if name in _checked:
        return _checked[name]
    library = LIBRARIES[name]
    try:
        module = importlib.import_module(library.module)
    except ImportError as exc:
        raise _missing(library, None, str(exc)) from exc
    found = installed_version(library.package)
    if found is not None and numbers(found) < numbers(library.minimum):
        raise _missing(library, found, "")
    _checked[name] = module
    return module


def optional(module: str) -> Any:
    """Return a module of one of the libraries, or None where it cannot be imported; use sites call ``require`` first."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def installed_version(package: str) -> str | None:
    """Return the installed version of a package, None where its metadata is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version; what follows them (rc1, .dev2) counts as nothing."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    parts = [int(part) for part in match.group().split(".")] if match else []
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def missing_library(name: str) -> MissingLibrary:
    """Return what ``require`` raises where nothing of a library is installed."""
    return _missing(LIBRARIES[name], None, "")


def _missing(library: Library, found: str | None, cause: str) -> MissingLibrary:
    state = f"is version {found}, too old" if found else "is missing"
    needs = f" It also needs {library.system}." if library.system else ""
    because = f" ({cause})" if cause and library.module.partition(".")[0] not in cause else ""
    return MissingLibrary(
        f"The Python library {library.package} {state} on the controller{because}: version {library.minimum} or newer is needed in "
        f"{sys.executable} (Python {platform.python_version()}), install it with: "
        f"{sys.executable} -m pip install '{library.install or f'{library.package}>={library.minimum}'}'.{needs}",
        library=library.package,
        minimum=library.minimum,
        found=found,
        python=sys.executable,
    )
