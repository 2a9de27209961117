# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log folder of the EM service: a file per day, lines as far as they are known (FACTS.md 7); header and file name are assumed."""

from __future__ import annotations

import datetime
import os
from typing import Any

HEADER = "#Software: Microsoft Exchange Server\r\n#Version: 15.00\r\n#Log-type: Mitigation Service\r\n#Fields: DateTime,ServerName,Event,Data\r\n"


def folder(machine: Any) -> str:
    """Return the folder."""
    return f"{machine.exchange_path}Logging\\MitigationService"


def write(machine: Any, event: str, level: str, message: str, when: datetime.datetime | None = None, **pairs: str) -> str:
    """Append a line to the file of its day and return the file's path; the folder is made when it is missing."""
    moment = when or machine.now()
    path = f"{folder(machine)}\\MitigationService_{moment:%Y%m%d}-1.LOG"
    more = "".join(f";S:{name}={value}" for name, value in pairs.items())
    line = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z,{machine.name},{event},S:LogLevel={level};S:Message={message}{more}\r\n"
    machine.files.make_folder(folder(machine))
    fresh = not machine.files.is_file(path)
    machine.files.append(path, ((HEADER if fresh else "") + line).encode("utf-8"))
    if when is None:  # the file system goes by the same clock
        os.utime(machine.files.host_path(path), (moment.timestamp(), moment.timestamp()))
    return path
