# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do next on a server, in sentences.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._drift import as_dict
from ansible_collections.exchange.mitigation.plugins.module_utils._report_words import CELLS, number


def next_steps(server: Mapping[str, Any]) -> list[str]:
    """Return what to do next on a server, one sentence each, most urgent first."""
    if server["contact"] == "unreachable":
        return ["Make the connection work (ansible.windows.win_ping is the test), then run again; until then nothing is known of this server."]
    if server["contact"] == "failed":
        return ["Mend what the message says, then run again; until then nothing is known of this server's mitigations."]
    cells: dict[str, list[str]] = {key: [v["id"] for v in server["mitigations"] if v["cell"] == key] for key in CELLS}
    steps: list[str] = []
    if server["configuration_problem"]:
        steps.append(f"Mend the IIS configuration: {server['configuration_problem']}")
    if cells["missing"] and as_dict(server["url_rewrite"]).get("installed") is False:
        steps.append("Install URL Rewrite: without it no rule is written here.")
    if cells["missing"] or cells["disabled"]:
        steps.append(f"Run exchange.mitigation.mitigate on this server for {', '.join(cells['missing'] + cells['disabled'])}.")
    if cells["conflicting"]:
        steps.append(f"Look at the rules of {', '.join(cells['conflicting'])} below; on_conflict: replace writes the known one over it.")
    steps += [str(as_dict(item).get("text")) for item in server["drift"] if as_dict(item).get("scope") == "server"]
    for verdict in server["mitigations"]:
        if verdict["breaks"]:
            steps.append(f"The rule of {verdict['id']} damages {', '.join(map(str, verdict['breaks']))}; when_em_active: take_over writes one that does not.")
        if verdict["duplicates"]:
            steps.append(f"{verdict['id']} is there more than once; remove the second by hand or with include_foreign.")
    if cells["blocked"]:
        steps.append(f"{', '.join(cells['blocked'])}: needed, and blocked by decision; lift the block or install the update that carries the fix.")
    if cells["unsupported"]:
        steps.append(f"Read the advisory for {', '.join(cells['unsupported'])}: this collection has no action for it.")
    if cells["applied"]:
        fixes = sorted((v["code_fix"] for v in server["mitigations"] if v["cell"] == "applied" and number(v["code_fix"])), key=number)
        text = f" (build {fixes[-1]} or newer)" if fixes else ""
        names = " and ".join(cells["applied"])
        verb = "stands" if len(cells["applied"]) == 1 else "stand"
        steps.append(f"Install the security update that carries the fix{text}; until then {names} {verb} in for it.")
    if cells["kept"]:
        steps.append(f"Keep {', '.join(cells['kept'])} until a later update is installed: this build has the fix, and Microsoft still asks for the mitigation.")
    if cells["leftover"]:
        steps.append(f"Remove {', '.join(cells['leftover'])}: this build no longer needs it.")
    if server["our_blocks"]:
        names = ", ".join(server["our_blocks"])
        steps.append(f"The block of {names} was set by this collection and can be lifted: exchange.mitigation.retire with exchange_mitigation_unblock does it.")
    if as_dict(server["em"]).get("can_read_newer_feeds") is False:
        steps.append("EM on this build cannot read the feeds published since July 2026; this collection can still apply them.")
    return steps
