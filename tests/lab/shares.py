# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shares of other servers, which a simulated server reaches with a delegated logon only (the second hop)."""

from __future__ import annotations

from lab.kernel import Invocation


def copied(inv: Invocation) -> bool:
    r"""Do a Copy-Item from a share (``fleet.shares``: path -> bytes) where the logon is delegated; False where it is something else."""
    paths = inv.get("LiteralPath") or inv.get("Path") or [""]
    source = paths[0] if isinstance(paths, list) else str(paths)
    shares = getattr(inv.machine.fleet, "shares", {})
    if not source.startswith("\\\\") or source.startswith("\\\\?\\") or not getattr(inv.machine, "delegated", False) or source not in shares:
        return False
    inv.machine.files.write(inv.get("Destination"), shares[source])
    return True
