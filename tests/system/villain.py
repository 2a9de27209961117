# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A compromised server: the lab, except that what it returns is meant to hurt the controller, its terminal or whoever reads the report."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lab import psrp
from lab.kernel import ErrorInfo, Obj

ESC = "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b1m\u202e"
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`"
FORMULA = "=cmd|'/c calc'!A0"
#: Members whose text is shown to people and decides nothing; where the others lie, a run ends before anything is shown.
SHOWN = {
    "csname", "caption", "fqdn", "edition", "site", "originatingserver", "mitigationsapplied", "message", "providername", "statusmessage",
    "internetwebproxy", "osarchitecture", "displayname", "description", "serverrole",
}  # fmt: skip


def template(marker: pathlib.Path) -> str:
    """Return text that would make a file if any of Ansible's ways to template took it."""
    lookup = "lookup('ansible.builtin.pipe', 'touch " + str(marker) + "')"
    return "{{ " + lookup + " }}{% set x = " + lookup + " %}{{ " + lookup + " | default('') }}"


def poisoned(value: Any, poison: str, every: bool, name: str = "") -> Any:
    """Return a value with the poison behind every text of it that is shown, or behind every text."""
    if isinstance(value, str):
        if name.lower() == "serverrole":
            return f"{value}, {poison}"
        return value + poison if (every and not value.startswith("~")) or name.lower() in SHOWN else value
    if isinstance(value, list):
        return [poisoned(item, poison, every, name) for item in value]
    if isinstance(value, Obj):
        props = {key: poisoned(item, poison, every, key) for key, item in value.props.items()}
        notes = {key: poisoned(item, poison, every, key) for key, item in value.notes.items()}
        inner = poisoned(value.value, poison, every, name)
        return dataclasses.replace(value, props=props, notes=notes, value=inner)
    return value


@contextmanager
def writing(change: Callable[[Any, Any], Any]) -> Iterator[None]:
    """Let ``change(pipeline, value)`` say what is written in place of each output; None: it has written something itself."""
    genuine = psrp.Pipeline.output

    def output(pipeline: Any, value: Any) -> None:
        wanted = change(pipeline, value)
        if wanted is not None:
            genuine(pipeline, wanted)

    psrp.Pipeline.output = output  # type: ignore[method-assign]
    try:
        yield
    finally:
        psrp.Pipeline.output = genuine  # type: ignore[method-assign]


@contextmanager
def poison_of(poison: str, every: bool = False) -> Iterator[None]:
    """Every object and every error record carries the poison."""
    genuine = psrp.Pipeline.error

    def error(pipeline: Any, info: ErrorInfo) -> None:
        genuine(pipeline, dataclasses.replace(info, message=info.message + poison, target=info.target + poison))

    psrp.Pipeline.error = error  # type: ignore[method-assign]
    try:
        with writing(lambda dummy, value: poisoned(value, poison, every)):
            yield
    finally:
        psrp.Pipeline.error = genuine  # type: ignore[method-assign]


def poison_configuration(machine: Any, poison: str) -> None:
    """Put a rule whose name and pattern carry the poison into the site's web.config, a comment and a header value too."""
    from xml.sax.saxutils import escape, quoteattr

    path = pathlib.Path(machine.root) / "inetpub" / "wwwroot" / "web.config"
    legal = "".join(character for character in poison if character >= " ")
    rule = f"<rule name={quoteattr('EEMS M1.1 ' + legal)}><match url={quoteattr(legal)} /><action type=\"None\" /></rule>"
    data = path.read_text("utf-8-sig")
    body = f"<!-- {escape(legal).replace('--', '')} --><system.webServer><rewrite><rules>{rule}</rules></rewrite></system.webServer>"
    path.write_text(data.replace("</configuration>", body + "</configuration>"), "utf-8")


def poison_events(machine: Any, poison: str) -> None:
    """Put events and log lines with the poison on the machine."""
    from lab import em_log

    now = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=5)
    machine.events.add("MSExchange Mitigation Service", 1008, poison, "Error", time=now)
    em_log.write(machine, "FetchMitigation", "Warning", "".join(character for character in poison if character not in "\r\n"), now)
