# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: a plan in words: the diff of what it changes, and what the change does to the running server.

Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import GLOBAL, INBOUND, OUTBOUND, settings
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import key
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_values import FileEdit, PoolChange, ServiceChange, Step
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict_states import POOL, SERVICE, shown, title
from ansible_collections.exchange.mitigation.plugins.module_utils._xml_spans import Document, Element, parse


def diff_of(steps: Sequence[Step]) -> list[dict[str, str]]:
    """Return what check mode and a real run show: the elements of rewrite sections, the services and pools that change; nothing else."""
    found = []
    for step in steps:
        if isinstance(step, FileEdit):
            header = f"{step.path} ({', '.join(step.purposes)})"
            before, after = _elements(step.path, step.before), _elements(step.path, step.after)
            texts = [_minus(before, after), _minus(after, before)]
        else:
            header = f"{title(_kind(step))} {step.name} ({', '.join(step.purposes)})"
            texts = [[shown(step.before)], [shown(step.after)]]
        gone, come = ("".join(f"{text}\n" for text in part) for part in texts)
        found.append({"before": gone, "after": come, "before_header": header, "after_header": header})
    return found


def effects_of(steps: Sequence[Step], configuration: Configuration | None) -> list[str]:
    """Return a sentence for each step: what it does to the running server."""
    return [_of_file(step, configuration) if isinstance(step, FileEdit) else _of_state(step, configuration) for step in steps]


def _of_file(edit: FileEdit, configuration: Configuration | None) -> str:
    if configuration is not None and key(edit.path) == key(configuration.application_host.path):
        return f"{edit.path} is rewritten for {', '.join(edit.purposes)}; IIS reads the configuration of the whole server anew, and applications may restart."
    verb = "is created" if edit.before is None else "is deleted" if edit.after is None else "is rewritten"
    places = [] if configuration is None else [f"{site}{path}" for site, path in configuration.places_reading(edit.path)]
    return f"{edit.path} {verb} for {', '.join(edit.purposes)}; IIS restarts the application domains of {', '.join(places)}, worker processes go on."


def _of_state(change: ServiceChange | PoolChange, configuration: Configuration | None) -> str:
    text = f"The {title(_kind(change))} {change.name} goes from {shown(change.before)} to {shown(change.after)} for {', '.join(change.purposes)}"
    if isinstance(change, PoolChange) and configuration is not None:
        pool = change.name.casefold()
        places = [f"{site.name}{app.path}" for site in configuration.sites for app in site.applications if app.pool.casefold() == pool]
        if places and change.after.state == "Stopped":
            text += f"; its worker processes end, and {', '.join(places)} answer 503"
        elif places and change.before.state == "Stopped":
            text += f"; {', '.join(places)} answer again"
    return text + "."


def _kind(change: ServiceChange | PoolChange) -> str:
    return SERVICE if isinstance(change, ServiceChange) else POOL


def _elements(file: str, data: bytes | None) -> list[str]:
    if data is None:
        return []
    try:
        document = parse(data, file)
    except ConfigurationError:
        return []
    texts = []
    for section in (GLOBAL, INBOUND, OUTBOUND):
        for setting in settings(document, section):
            children = [child for child in setting.element.children if child.tag == "rule"]
            children += [child for holder in setting.element.all("preConditions") for child in holder.all("preCondition")]
            texts += [_dedented(document, child) for child in children]
    return texts


def _dedented(document: Document, element: Element) -> str:
    """Return an element with its own indentation taken from all of its lines."""
    space = document.space_before(element.start)
    own = space[max(space.rfind("\n"), space.rfind("\r")) + 1 :]
    lines = document.source(element).replace("\r\n", "\n").split("\n")
    return "\n".join([lines[0], *(line[len(own) :] if line.startswith(own) else line.lstrip() for line in lines[1:])])


def _minus(texts: Sequence[str], others: Sequence[str]) -> list[str]:
    left = collections.Counter(others)
    result = []
    for text in texts:
        if left[text]:
            left[text] -= 1
        else:
            result.append(text)
    return result
