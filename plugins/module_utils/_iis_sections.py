# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: which configuration sections a server knows, who may set them, and where one file sets them.

Sources: the IIS schema and documentation of location tags, overrideMode and allowDefinition (FACTS.md 2.1, 6; CMDLETS.md 5).
Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import ntpath

from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import folded, segments
from ansible_collections.exchange.mitigation.plugins.module_utils._xml_spans import Document, Element

INBOUND = "system.webServer/rewrite/rules"
OUTBOUND = "system.webServer/rewrite/outboundRules"
GLOBAL = "system.webServer/rewrite/globalRules"
REWRITE_SECTIONS = (INBOUND, OUTBOUND, GLOBAL)
MODULES = "system.webServer/modules"


@dataclasses.dataclass(frozen=True)
class SectionDeclaration:
    """A section that ``<configSections>`` declares. ``override_mode_default`` is Allow or Deny."""

    path: str
    override_mode_default: str
    allow_definition: str


@dataclasses.dataclass(frozen=True)
class RewriteSupport:
    """What applicationHost.config says about URL Rewrite: sections declared, module registered, module in the pipeline."""

    rules_declared: bool
    outbound_declared: bool
    module_registered: bool
    module_loaded: bool
    image: str | None

    @property
    def declared(self) -> bool:
        """True when both sections that mitigations use are declared."""
        return self.rules_declared and self.outbound_declared

    @property
    def module(self) -> bool:
        """True when the module is registered and loaded for every site."""
        return self.module_registered and self.module_loaded


@dataclasses.dataclass(frozen=True)
class Setting:
    """One place where one file sets a section.

    ``target`` is the path it is for, relative to the file's own level, folded; ``location`` the text of the tag's path,
    None outside any tag; ``override_mode`` Allow, Deny or Inherit.
    """

    section: str
    element: Element
    location: Element | None
    target: tuple[str, ...]
    inherited_by_applications: bool
    override_mode: str

    @property
    def location_path(self) -> str | None:
        """The path of the location tag as written (``.`` where it has none), None outside a tag."""
        return None if self.location is None else self.location.attributes.get("path", ".") or "."


def declarations(root: Element) -> dict[str, SectionDeclaration]:
    """Return the sections that a file declares, by path."""
    found: dict[str, SectionDeclaration] = {}

    def descend(group: Element, prefix: str) -> None:
        for child in group.children:
            name = prefix + child.attributes.get("name", "")
            if child.tag == "sectionGroup":
                descend(child, name + "/")
            elif child.tag == "section":
                found[name] = SectionDeclaration(
                    name, child.attributes.get("overrideModeDefault", "Allow"), child.attributes.get("allowDefinition", "Everywhere")
                )

    for sections in root.all("configSections"):
        descend(sections, "")
    return found


def settings(document: Document, section: str) -> list[Setting]:
    """Return every place where a file sets a section, in document order."""
    tags = section.split("/")
    found: list[Setting] = []
    if document.encode(tags[1]) not in document.data:  # the name of a tag stands in a file as it is; most files have no such section
        return found
    for child in document.root.children:
        if child.tag == "location":
            attributes = child.attributes
            mode = attributes.get("overrideMode", "Inherit")
            if mode == "Inherit" and "allowOverride" in attributes:
                mode = "Allow" if attributes["allowOverride"].lower() == "true" else "Deny"
            inherited = attributes.get("inheritInChildApplications", "true").lower() != "false"
            target = folded(segments(attributes.get("path", "")))
            found += [Setting(section, element, child, target, inherited, mode) for element in child.walk(*tags)]
        elif child.tag == tags[0]:
            found += [Setting(section, element, None, (), True, "Inherit") for element in child.walk(*tags[1:])]
    return found


def rewrite_support(root: Element) -> RewriteSupport:
    """Read URL Rewrite's traces from a parsed applicationHost.config."""
    declared = declarations(root)
    images = [e.attributes.get("image") for e in root.walk("system.webServer", "globalModules", "add") if e.attributes.get("name") == "RewriteModule"]
    modules = root.walk("system.webServer", "modules", "add")
    modules += [e for tag in root.all("location") if not segments(tag.attributes.get("path", "")) for e in tag.walk("system.webServer", "modules", "add")]
    return RewriteSupport(
        rules_declared=INBOUND in declared,
        outbound_declared=OUTBOUND in declared,
        module_registered=bool(images),
        module_loaded=any(e.attributes.get("name") == "RewriteModule" for e in modules),
        image=images[0] if images else None,
    )


def source_path(file: str, source: str) -> str:
    """Return the file that a configSource means; it is relative to the file that names it."""
    return ntpath.normpath(ntpath.join(ntpath.dirname(file), source))


def sources(document: Document) -> list[str]:
    """Return the other files in which a file keeps rewrite sections or modules; only below its own folder, where IIS looks for them, too."""
    if document.encode("configSource") not in document.data:
        return []
    folder = ntpath.dirname(document.file)
    named = [
        setting.element.attributes["configSource"]
        for section in (*REWRITE_SECTIONS, MODULES)
        for setting in settings(document, section)
        if "configSource" in setting.element.attributes
    ]
    found = [source_path(document.file, name) for name in named if not ntpath.splitdrive(name)[0] and not name.startswith(("\\", "/"))]
    return [path for path in found if path.lower().startswith(ntpath.join(folder, "").lower())]
