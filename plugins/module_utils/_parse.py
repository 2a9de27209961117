# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 3, parse: the proven tree in, the envelope as a value out. What stands inside a Config stays unread.

How Microsoft's feed describes a rewrite, service or pool action is not public (FACTS.md 1.2); only the envelope and ``DoNothing`` are.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import shown, unproven

MICROSOFT = "microsoft"
LOCAL = "local"
#: Ids with this prefix belong to the administrators' own documents and never to Microsoft's.
LOCAL_PREFIX = "local-"
DO_NOTHING = "DoNothing"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"(?:0|[1-9][0-9]{0,4})(?:\.(?:0|[1-9][0-9]{0,4})){0,3}")


@dataclasses.dataclass(frozen=True)
class Action:
    """An Action of an ActionList, as far as the envelope tells."""

    type: str
    scope: str
    description: str


@dataclasses.dataclass(frozen=True)
class Config:
    """A published mitigation. ``actions`` is empty where the content has another shape than ActionList/Action."""

    id: str
    description: str
    actions: tuple[Action, ...]

    @property
    def does_nothing(self) -> bool:
        """Say whether every action is known to change nothing."""
        return bool(self.actions) and all(action.type == DO_NOTHING for action in self.actions)


@dataclasses.dataclass(frozen=True)
class Document:
    """A whole feed: its version and its Configs in the order of the document, ids unique in any case."""

    version: str
    configs: tuple[Config, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the ids in order."""
        return tuple(config.id for config in self.configs)

    def find(self, wanted: str) -> Config | None:
        """Return the Config of exactly that id."""
        return next((config for config in self.configs if config.id == wanted), None)


def version_key(version: str) -> tuple[int, ...]:
    """Return the version as numbers, so that 1.0.9 < 1.0.11; trailing zeros do not count. Raises VerifyError."""
    if not _VERSION.fullmatch(version):
        raise unproven("version_malformed", f"The version is {shown(version, 40) or 'missing'}, not up to four dotted numbers of up to five digits.")
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def parse(root: Any, domain: str = MICROSOFT) -> Document:
    """Return the envelope of a tree that was parsed from proven octets; raises VerifyError."""
    version = root.get("version") or ""
    version_key(version)
    elements = [child for child in root if isinstance(child.tag, str)]
    if root.tag != "EOCS" or any(child.tag != "Config" for child in elements) or not _only_elements(root):
        raise unproven("envelope_malformed", "The document is not EOCS with Config elements and nothing else.")
    configs = tuple(_config(element, domain) for element in elements)
    seen: set[str] = set()
    for config in configs:
        if config.id.casefold() in seen:
            raise unproven("config_id_duplicate", f"More than one Config has the id {config.id}.")
        seen.add(config.id.casefold())
    return Document(version, configs)


def _only_elements(root: Any) -> bool:
    """Say whether nothing but white space stands between the Configs."""
    return not "".join([root.text or "", *(child.tail or "" for child in root)]).strip(" \t\r\n")


def _config(element: Any, domain: str) -> Config:
    identifier = element.get("id") or ""
    if not _ID.fullmatch(identifier):
        raise unproven("config_id_malformed", f"A Config has the id {shown(identifier, 70) or '(none)'}.")
    local = identifier.casefold().startswith(LOCAL_PREFIX)
    if domain == MICROSOFT and local:
        raise unproven("wrong_domain", f"The id {identifier} never comes from Microsoft.")
    if domain != MICROSOFT and not local:
        raise unproven("wrong_domain", f"The id {identifier} is not one of a local document, where every id begins with LOCAL-.")
    actions = element.findall("ActionList/Action")
    return Config(identifier, element.get("desc") or "", tuple(Action(a.get("type") or "", a.get("scope") or "", a.get("desc") or "") for a in actions))
