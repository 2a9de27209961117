# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Merging of one configuration section along its sources: adds, removes, clears, duplicates and locks."""

from __future__ import annotations

import dataclasses

from lab.iis_schema import GENERIC, Element
from lab.iis_xml import ALREADY_EXISTS, INVALID_DATA, LOCK_VIOLATION, ConfigError, Node

_LOCKS = ("lockItem", "lockElements", "lockAttributes", "lockAllElementsExcept", "lockAllAttributesExcept")
_META = (*_LOCKS, "configSource", "overrideMode", "allowOverride", "configProtectionProvider")


@dataclasses.dataclass(frozen=True)
class Source:
    """A place that may contribute to a configuration path.

    ``rank``: depth of the file (0 = applicationHost.config), ``level``: the configuration path it applies to,
    ``location``: the text of its ``<location path>`` (None outside of one).
    """

    file: str
    rank: int
    level: str
    node: Node
    location: str | None = None
    inherit: bool = True
    override: str = "Inherit"

    def sections(self, name: str) -> list[Node]:
        """Return the elements of a section in this place; more than one is an error of whoever reads it."""
        nodes = [self.node]
        for part in name.split("/"):
            nodes = [child for node in nodes for child in node.named(part)]
        return nodes


@dataclasses.dataclass
class Entry:
    """An element of the effective configuration; ``items`` are the entries of its collection, in order."""

    name: str
    attributes: dict[str, str] = dataclasses.field(default_factory=dict)
    children: dict[str, Entry] = dataclasses.field(default_factory=dict)
    items: list[Entry] = dataclasses.field(default_factory=list)
    source: Source | None = None
    line: int = 0
    schema: Element = GENERIC
    locked_by: int | None = None
    attribute_locks: dict[str, int] = dataclasses.field(default_factory=dict)
    element_locks: dict[str, int] = dataclasses.field(default_factory=dict)

    def get(self, attribute: str) -> str:
        """Return an attribute or the schema's default."""
        if attribute in self.attributes:
            return self.attributes[attribute]
        kind = self.schema.attributes.get(attribute)
        return (kind[1] or "") if kind else ""

    def flag(self, attribute: str) -> bool:
        """Return a boolean attribute."""
        return self.get(attribute).lower() == "true"

    def child(self, name: str) -> Entry:
        """Return a child element, an empty one where nobody wrote it."""
        return self.children.get(name) or Entry(name, schema=self.schema.children.get(name, GENERIC))


def merge(entry: Entry, node: Node, source: Source) -> None:
    """Apply an element of one source to what its ancestors made; raises ConfigError with the line of the culprit."""
    schema = entry.schema
    _attributes(entry, node, source)
    for child in node.children:
        if schema.add is not None and child.name == schema.clear:
            _unlocked(entry.element_locks, child.name, source, child)
            if any(_locks(item.locked_by, source) for item in entry.items):
                raise _error(source, child, "Lock violation", LOCK_VIOLATION)
            entry.items.clear()
        elif schema.add is not None and child.name == schema.remove:
            _unlocked(entry.element_locks, child.name, source, child)
            wanted = _key(schema, child)
            for item in [item for item in entry.items if _entry_key(schema, item) == wanted]:
                if _locks(item.locked_by, source):
                    raise _error(source, child, "Lock violation", LOCK_VIOLATION)
                entry.items.remove(item)
        elif schema.add is not None and child.name == schema.add:
            _unlocked(entry.element_locks, child.name, source, child)
            _add(entry, child, source)
        elif child.name in schema.children:
            _single(entry, child, source, schema.children[child.name])
        elif schema.strict:
            raise _error(source, child, f"Unrecognized element '{child.name}'", INVALID_DATA)
        elif schema.add is None and child.name in ("add", "clear", "remove"):
            _plain_collection(entry, child, source)
        else:
            _single(entry, child, source, GENERIC)
    _remember_locks(entry, node, source)


def _add(entry: Entry, child: Node, source: Source) -> None:
    schema = entry.schema
    item = Entry(child.name, source=source, line=child.line, schema=schema.item or GENERIC)
    for name in schema.keys:
        if _default(schema, name) is None and name not in child.attributes and item.schema is not GENERIC:
            raise _error(source, child, f"Required attribute '{name}' not found", INVALID_DATA)
    wanted = _key(schema, child)
    if schema.keys and any(_entry_key(schema, other) == wanted for other in entry.items):
        values = ", ".join(child.attributes.get(name, _default(schema, name) or "") for name in schema.keys)
        if len(schema.keys) == 1:
            text = f"unique key attribute '{schema.keys[0]}' set to '{values}'"
        else:
            text = f"combined key attributes '{', '.join(schema.keys)}' respectively set to '{values}'"
        raise _error(source, child, f"Cannot add duplicate collection entry of type '{child.name}' with {text}", ALREADY_EXISTS)
    merge(item, child, source)
    if child.attributes.get("lockItem", "false").lower() == "true":
        item.locked_by = source.rank
    entry.items.append(item)


def _single(entry: Entry, child: Node, source: Source, schema: Element) -> None:
    _unlocked(entry.element_locks, child.name, source, child)
    below = entry.children.get(child.name)
    if below is None:
        below = entry.children[child.name] = Entry(child.name, schema=schema)
    below.source, below.line = source, child.line
    merge(below, child, source)


def _plain_collection(entry: Entry, child: Node, source: Source) -> None:
    """A collection of an element without schema: kept in order, without a check for duplicates."""
    if child.name == "clear":
        entry.items.clear()
    elif child.name == "remove":
        entry.items = [item for item in entry.items if not child.attributes.items() <= item.attributes.items()]
    else:
        item = Entry(child.name, source=source, line=child.line)
        merge(item, child, source)
        entry.items.append(item)


def _attributes(entry: Entry, node: Node, source: Source) -> None:
    for name, value in node.attributes.items():
        if name in _META or name.startswith("xml"):
            continue
        _unlocked(entry.attribute_locks, name, source, node)
        known = entry.schema.attributes.get(name)
        if known is None and entry.schema.strict:
            raise _error(source, node, f"Unrecognized attribute '{name}'", INVALID_DATA)
        if known is not None and known[0] == "bool" and value.lower() not in ("true", "false"):
            raise _error(source, node, f"The '{name}' attribute is invalid.  Not a valid boolean value", INVALID_DATA)
        entry.attributes[name] = value
    if entry.schema.strict:
        for name, (dummy, default) in entry.schema.attributes.items():
            if default is None and name not in entry.attributes:
                raise _error(source, node, f"Required attribute '{name}' not found", INVALID_DATA)


def _remember_locks(entry: Entry, node: Node, source: Source) -> None:
    for name in node.attributes.get("lockAttributes", "").replace(" ", "").split(","):
        if name:
            entry.attribute_locks.setdefault(name, source.rank)
    for name in node.attributes.get("lockElements", "").replace(" ", "").split(","):
        if name:
            entry.element_locks.setdefault(name, source.rank)


def _locks(rank: int | None, source: Source) -> bool:
    return rank is not None and source.rank > rank


def _unlocked(locks: dict[str, int], name: str, source: Source, node: Node) -> None:
    if _locks(locks.get(name), source) or _locks(locks.get("*"), source):
        raise _error(source, node, "Lock violation", LOCK_VIOLATION)


def _default(schema: Element, name: str) -> str | None:
    kind = schema.item.attributes.get(name) if schema.item else None
    return kind[1] if kind else None


def _key(schema: Element, node: Node) -> tuple[str, ...]:
    return tuple(node.attributes.get(name, _default(schema, name) or "").lower() for name in schema.keys)


def _entry_key(schema: Element, item: Entry) -> tuple[str, ...]:
    return tuple(item.attributes.get(name, _default(schema, name) or "").lower() for name in schema.keys)


def _error(source: Source, node: Node, message: str, code: int) -> ConfigError:
    return ConfigError("\\\\?\\" + source.file, node.line, message, code)
