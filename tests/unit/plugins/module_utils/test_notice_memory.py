# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a channel was told, on disk: read back as it was written, and never taken from a file that says something else."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import VerifyError
from ansible_collections.exchange.mitigation.plugins.module_utils._notice import Entry
from ansible_collections.exchange.mitigation.plugins.module_utils._notice_memory import Told

ENTRIES = {"drift/ex1/M2/missing": Entry("drift/ex1", "2026-11-24T12:00:00+00:00", "r1")}


def memory(directory: pathlib.Path, name: str = "chat") -> Told:
    """Return the memory of a channel in a directory that is there."""
    told = Told(str(directory), name, 1)
    told.prepare()
    return told


def test_what_is_stored_is_read_back_and_each_channel_has_its_own(tmp_path: pathlib.Path) -> None:
    memory(tmp_path).store(ENTRIES)
    assert memory(tmp_path).entries() == ENTRIES
    assert memory(tmp_path, "mail").entries() == {}


@pytest.mark.parametrize(
    "other",
    [{"format": 2}, {"channel": "mail"}, {"told": ["drift"]}, {"told": {"drift": "yesterday"}}, {"told": {"drift": {"scope": "s"}}}],
    ids=["format", "channel", "list", "text", "incomplete"],
)
def test_a_file_that_says_something_else_is_damage_and_not_an_empty_memory(tmp_path: pathlib.Path, other: dict[str, Any]) -> None:
    """An empty memory would tell everything again; a file of another channel would keep things from being told."""
    told = memory(tmp_path)
    told.store(ENTRIES)
    told.file.write_text(json.dumps({**json.loads(told.file.read_text()), **other}))
    with pytest.raises(VerifyError, match=f"{told.file.name} is not what this collection keeps of the channel chat") as caught:
        told.entries()
    assert caught.value.reason == "state_damaged"
