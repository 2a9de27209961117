# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: the places where files set one section for a path, and what forbids it there: locks, a second copy, no declaration.

Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ansible_collections.exchange.mitigation.plugins.module_utils._iis_rules import Problem
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import SectionDeclaration, Setting
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import joined
from ansible_collections.exchange.mitigation.plugins.module_utils._xml_spans import Element


@dataclasses.dataclass(frozen=True)
class Contribution:
    """One setting that takes part on a path: the file, its place in the order of files, the level it is for."""

    setting: Setting
    file: str
    file_index: int
    target: tuple[str, ...]
    reach: str


def misplaced(section: str, contributions: Sequence[Contribution], declared: SectionDeclaration | None) -> list[Problem]:
    """Return the problems of a section as such: undeclared, locked, or set twice in one file for one path."""
    problems: list[Problem] = []
    seen: dict[tuple[int, tuple[str, ...]], Contribution] = {}
    elements_locked: list[tuple[int, Callable[[str], bool], str]] = []
    locked = (0, declared is not None and declared.override_mode_default == "Deny", "overrideModeDefault in applicationHost.config")
    for item in contributions:
        element = item.setting.element
        where = f"{item.file}, line {element.line}"
        if declared is None:
            problems.append(
                Problem("section_undeclared", f"{where}: the section {section} is not declared in applicationHost.config", item.file, element.line, True)
            )
            continue
        if item.file_index and declared.allow_definition == "AppHostOnly":
            problems.append(Problem("locked", f"{where}: the section {section} is for applicationHost.config only", item.file, element.line, True))
        if locked[1] and item.file_index > locked[0]:
            problems.append(Problem("locked", f"{where}: the section {section} is locked here by {locked[2]}", item.file, element.line, True))
        twin = seen.setdefault((item.file_index, item.target), item)
        if twin is not item:
            split = (twin.setting.location is None) != (item.setting.location is None)
            message = f"{where}: the section {section} stands a second time for {joined(item.target[1:])}; the first is line {twin.setting.element.line}"
            problems.append(Problem("section_split" if split else "section_twice", message, item.file, element.line, True))
        mode = item.setting.override_mode
        if mode in ("Allow", "Deny"):
            locked = (item.file_index, mode == "Deny", f"{item.file}, line {element.line}")
        if element.attributes.get("lockItem", "false").lower() == "true":
            locked = (item.file_index, True, f"{item.file}, line {element.line}")
        for index, tags, where_locked in elements_locked:
            culprit = next((child for child in element.children if item.file_index > index and tags(child.tag)), None)
            if culprit is not None:
                message = f"{item.file}, line {culprit.line}: <{culprit.tag}> is locked here by {where_locked}"
                problems.append(Problem("locked", message, item.file, culprit.line, True))
        elements_locked.append((item.file_index, _locked_tags(element), f"{item.file}, line {element.line}"))
    return problems


def _locked_tags(element: Element) -> Callable[[str], bool]:
    """Return a test for the elements that a section forbids lower levels to use (lockElements, lockAllElementsExcept)."""
    attributes = element.attributes
    named = {part.strip() for part in attributes.get("lockElements", "").split(",") if part.strip()}
    allowed = {part.strip() for part in attributes["lockAllElementsExcept"].split(",")} if "lockAllElementsExcept" in attributes else None
    return lambda tag: tag in named or "*" in named or (allowed is not None and tag not in allowed)


def locks_rules(element: Element) -> bool:
    """Say whether a section forbids lower levels to add rules (lockItem, lockElements, lockAllElementsExcept)."""
    return element.attributes.get("lockItem", "false").lower() == "true" or _locked_tags(element)("rule")
