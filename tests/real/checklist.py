# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the checklist for somebody with a real Exchange lab: every assumption of the register with its check, what only reads first.

    python tests/real/checklist.py [--recorded FOLDER] [--output FILE]

With the folder that observe.yml has written, what can be answered from it is answered: as assumed, otherwise, or not seen.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import yaml

HERE = pathlib.Path(__file__).resolve().parent
REGISTER = HERE.parent / "lab" / "assumptions"
SOURCES = {"assumed": "nobody has shown it", "documentation": "documented", "recording": "recorded on another system"}

#: Cmdlets and programs that only read.
_READING = re.compile(r"\b(?:Get|Select|Where|Sort|Test|Measure|Format|ConvertTo|Export|Compare|ForEach|Search|Out)-\w+", re.IGNORECASE)
_CMDLET = re.compile(r"\b[A-Z][a-z]+-[A-Z]\w+")
#: Words of a check that is done by hand and changes something, or needs more than a look.
_CHANGING = re.compile(
    r"(?i)\b(?:put|move|add|delete|remove|write|edit|install|uninstall|msiexec|attrib|lock|unlock|stop|start|restart|kill|drop|fill|full volume|"
    r"reboot|close|break|cut|set|change|make|block|unblock|new|open|signal|begin|switch|wait|copy|rename|register|without the module|test site|"
    r"rule in|M2 on|opens?|twice|PSSession|RunspacePool|Invoke-CimMethod|WriteAllBytes|appcmd|netsh|setspn|winrm set|icacls|reg add|"
    r"an unknown element|Import-Module|cmd\.exe|a second)\b"
)


def rows() -> list[dict[str, str]]:
    """Return the register with the name of its file in each row."""
    found = []
    for path in sorted(REGISTER.glob("*.yml")):
        found += [{**row, "file": path.stem} for row in yaml.safe_load(path.read_text("utf-8"))]
    return found


def only_reads(row: Mapping[str, str]) -> bool:
    """Tell whether a check surely changes nothing: it names reading cmdlets alone, and no word of a change. In doubt, no."""
    check = re.sub(r"(?i)\bSet-\w+ .*?-WhatIf\b", "Get-Nothing", row["check"])
    named = _CMDLET.findall(check)
    return bool(named) and all(_READING.fullmatch(name) for name in named) and not _CHANGING.search(re.sub(r"\$\w+|-\w+|'[^']*'|\"[^\"]*\"", " ", check))


# What a recording answers by itself: True as assumed, False otherwise, None not seen.


def _files(server: Mapping[str, Any]) -> dict[str, str]:
    return {name: data for name, data in server["template"].items() if "EEMS" in data}


def _outside_location(server: Mapping[str, Any], number: str, file: str) -> bool | None:
    data = server["template"].get(file, "")
    found = re.search(rf'<rule name="EEMS {number}', data)
    if found is None:
        return None
    before = re.sub(r"(?s)<!--.*?-->", "", data[: found.start()])
    return len(re.findall(r"<location\b[^>]*[^/]>", before)) == before.count("</location>")


def _display_version(server: Mapping[str, Any]) -> bool | None:
    now = server.get("server", {}).get("server", {})
    mine = [one for one in server.get("organization", {}).get("organization", {}).get("servers", []) if one.get("name") == now.get("name")]
    if not mine or not now.get("build") or not mine[0].get("version"):
        return None
    shown = re.search(r"Build (\d+)\.(\d+)", str(mine[0]["version"]))
    third, fourth = str(now["build"]).split(".")[2:4]
    old = now.get("product") == "Exchange2016" or (now.get("product") == "Exchange2019" and int(third) < 1544)
    if shown is None or old:
        return None
    return shown.groups() == (third, fourth)


def _lists(server: Mapping[str, Any]) -> bool | None:
    servers = server.get("organization", {}).get("organization", {}).get("servers", [])
    return all(isinstance(one.get("mitigations_blocked"), (list, type(None))) for one in servers) if servers else None


def _ping(server: Mapping[str, Any]) -> bool | None:
    em = server.get("server", {}).get("server", {}).get("em", {})
    if not em.get("applied_time"):
        return None
    return any(str(one).upper().startswith("PING1") for one in em.get("applied") or []) or "PING1" in (em.get("blocked") or [])


ANSWERS: Mapping[str, Callable[[Mapping[str, Any]], bool | None]] = {
    "em-m1": lambda server: _outside_location(server, "M1", "DefaultWebSite.web.config"),
    "em-m2": lambda server: _outside_location(server, "M2", "DefaultWebSite-owa.web.config"),
    "em-ping": _ping,
    "exchange-display-version": _display_version,
    "exchange-lists": _lists,
}


def recorded(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Return what observe.yml has written, by server."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            texts = {file.name: file.read_bytes().decode("utf-8", "replace") for file in sorted((path / "template").glob("*.config"))}
            found[path.name] = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(path.glob("*.json"))} | {"template": texts}
    return found


def answer(row: Mapping[str, str], servers: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return what a recording says of an assumption, None where it says nothing."""
    judge = ANSWERS.get(row["id"])
    seen = {name: judge(server) for name, server in servers.items()} if judge else {}
    good = [name for name, value in seen.items() if value]
    bad = [name for name, value in seen.items() if value is False]
    if bad:
        return f"**otherwise** on {', '.join(bad)}"
    return f"as assumed on {', '.join(good)}" if good else None


def _section(title: str, text: str, rows_: list[dict[str, str]], servers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [f"## {title} ({len(rows_)})", "", text, ""]
    for row in rows_:
        found = answer(row, servers)
        lines += [
            f"- [{'x' if found else ' '}] **{row['id']}** ({row['file']}, {SOURCES[row['source']]})",
            f"  - expected: {row['what']}",
            f"  - check: `{row['check']}`",
            f"  - seen: {found or ''}",
        ]
    return [*lines, ""]


def checklist(servers: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the checklist as Markdown."""
    found = sorted(rows(), key=lambda row: (list(SOURCES).index(row["source"]), row["file"], row["id"]))
    look = [row for row in found if only_reads(row)]
    rest = [row for row in found if not only_reads(row)]
    counts = ", ".join(f"{sum(row['source'] == source for row in found)} {said}" for source, said in SOURCES.items())
    lines = [
        "# What the simulated servers take for granted, to be checked on real ones",
        "",
        f"{len(found)} assumptions: {counts}. Written from `tests/lab/assumptions` by `tests/real/checklist.py`; what nobody has shown comes first.",
        "Please send what is otherwise, with the build, as an issue. A recording makes it a test.",
        "",
        *_section("Looking", "These only read. Any server will do.", look, servers),
        *_section(
            "On a test server", "These change something, wait for something, or need two connections. Never on a server that people use.", rest, servers
        ),
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Write the checklist."""
    parser = argparse.ArgumentParser(description="Writes the checklist of assumptions for a real Exchange lab.")
    parser.add_argument("--recorded", type=pathlib.Path, help="folder that observe.yml has written")
    parser.add_argument("--output", type=pathlib.Path, help="file to write instead of the standard output")
    options = parser.parse_args(arguments)
    text = checklist(recorded(options.recorded) if options.recorded else {})
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
