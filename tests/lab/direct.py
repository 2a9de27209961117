# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one simulated cmdlet without any wire: for tests of the cmdlets themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lab.cmdlets_acl
import lab.cmdlets_cim
import lab.cmdlets_events
import lab.cmdlets_files
import lab.cmdlets_iis
import lab.cmdlets_installer
import lab.cmdlets_language
import lab.cmdlets_registry
import lab.cmdlets_services
import lab.cmdlets_system  # noqa: F401  each of them registers its cmdlets
from lab.binder import Binder
from lab.kernel import REGISTRY, ErrorInfo, Invocation, LabRefusal


def run(machine: Any, name: str, input: Iterable[Any] = (), session: Any = None, **parameters: Any) -> tuple[list[Any], list[ErrorInfo]]:
    """Bind and run a cmdlet; returns its output and its non-terminating errors. Raises Terminating or LabRefusal.

    ``session``: anything with a ``language_mode``; None is FullLanguage.
    """
    definition = REGISTRY.get(("host", name.lower()))
    if definition is None:
        raise LabRefusal(f"the lab has no cmdlet {name}")
    values = list(input)
    bound = Binder(definition).bind(list(parameters.items()), piped=bool(values))
    errors: list[ErrorInfo] = []
    return list(definition.body(Invocation(machine, bound, values, errors.append, session))), errors


def one(machine: Any, name: str, **parameters: Any) -> Any:
    """Run a cmdlet that must write exactly one object and no error; returns the object."""
    output, errors = run(machine, name, **parameters)
    if errors or len(output) != 1:
        raise AssertionError(f"{name}: {len(output)} objects, errors {[error.fqid for error in errors]}")
    return output[0]
