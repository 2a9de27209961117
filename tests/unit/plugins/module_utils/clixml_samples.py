# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents with several objects, as Export-Clixml writes them: what the collection, which reads one object a message, never gets."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import decode

NAMESPACE = "{http://schemas.microsoft.com/powershell/2004/04}"


def decode_all(document: str | bytes) -> list[Any]:
    """Return the objects of a whole document, read as the members of one list."""
    root = ET.fromstring(document if isinstance(document, str) else document.removeprefix(b"\xef\xbb\xbf"))
    whole = ET.Element(f"{NAMESPACE}Obj", RefId="whole")
    ET.SubElement(whole, f"{NAMESPACE}LST").extend(root)
    found = decode(ET.tostring(whole))
    assert isinstance(found, list)
    return found
