# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogue: what this collection knows how to do, one value for each mitigation, one file each in ``_mitigations``, found by being there (DESIGN.md 4).

A feed's id is matched alone; nothing is taken from the feed's content. Note that this module util is private to the collection.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from types import ModuleType

from ansible_collections.exchange.mitigation.plugins.module_utils import _mitigations
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import Mitigation


def _read(package: ModuleType) -> tuple[Mitigation, ...]:
    """Return the MITIGATION of every module of a package whose name does not begin with ``_``: EM's first, then those only for who names them."""
    names = sorted(entry.name for entry in pkgutil.iter_modules(package.__path__) if not entry.name.startswith("_"))
    found = [importlib.import_module(f"{package.__name__}.{name}").MITIGATION for name in names]
    return tuple(sorted(found, key=lambda mitigation: (not mitigation.published, mitigation.id)))


_ALL = _read(_mitigations)
#: EM's heartbeat, which changes nothing (FACTS.md 1.1).
_HEARTBEAT = re.compile(r"PING[0-9]+(\.[0-9]+)*", re.ASCII)


def all() -> tuple[Mitigation, ...]:  # pylint: disable=redefined-builtin
    """Return every mitigation, in the order in which they are planned and reported."""
    return _ALL


def find(identifier: str, more: Iterable[Mitigation] = ()) -> Mitigation | None:
    """Return the mitigation that an id means which a user gave, None where there is none. ``more`` are those of a local document."""
    return next((mitigation for mitigation in (*_ALL, *more) if mitigation.matches(identifier)), None)


def is_local(identifier: str) -> bool:
    """Say whether an id is one of the organisation's own documents: EM never makes or reads those (DESIGN.md 4)."""
    return identifier.casefold().startswith("local-")


def find_published(identifier: str) -> Mitigation | None:
    """Return the mitigation that an id of a feed means, None where there is none."""
    found = find(identifier)
    return found if found is not None and found.published else None


def is_heartbeat(identifier: str) -> bool:
    """Say whether an id is that of a mitigation that does nothing by design."""
    return _HEARTBEAT.fullmatch(identifier) is not None


def related(one: str, other: str) -> bool:
    """Say whether an id means another: equal, or a dotted prefix, either way (DESIGN.md 5); case does not count."""
    a, b = one.strip().casefold(), other.strip().casefold()
    return a == b or a.startswith(b + ".") or b.startswith(a + ".")
