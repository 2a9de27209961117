# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What url_rewrite says on every kind of server: Windows release x product x state of URL Rewrite x language.

The verdict does not depend on product and language, which is what this shows. The table is printed with ``-s`` and written to the
file that EXCHANGE_MITIGATION_VERDICTS names.
"""

from __future__ import annotations

import itertools
import os
import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import decode
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, ErrorRecord
from ansible_collections.exchange.mitigation.plugins.module_utils._url_rewrite import action_for, judge, observe, refuse_unsuitable

PRODUCTS = {"none": ("Exchange2019", "15.2.1748.46"), "2016": ("Exchange2016", "15.1.2507.13"), "2019": ("Exchange2019", "15.2.1748.46"),
            "SE": ("ExchangeSE", "15.2.2562.41")}  # fmt: skip
EXPECTED = {
    "none": "absent -> install",
    "2.0": "outdated -> upgrade",
    "2.1": "installed -> none",
    "newer": "installed -> none",
    "broken": "broken -> repair",
}


class Direct:
    """A session that runs reads on a machine without any wire, through both codecs."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine

    def read(self, statements: Any) -> list[Answer]:
        from lab import direct
        from lab.clixml import Writer

        answers = []
        for statement in statements:
            (call,) = statement
            output, errors = direct.run(self.machine, call.cmdlet, **call.parameters)
            objects = tuple(decode(Writer().value(item)) for item in output)
            answers.append(Answer(statement, objects, tuple(ErrorRecord(e.message, e.fqid, "", e.exception, e.target) for e in errors)))
        return answers


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str, str], str]:
    from lab import stock, variants

    found = {}
    for product, (kind, build) in PRODUCTS.items():
        machine = stock.make(tmp_path_factory.mktemp("matrix") / "EX1", stock.Stock("EX1", kind, build))
        if product == "none":
            variants.without_exchange(machine)
        for release, state, language in itertools.product(variants.RELEASES, variants.REWRITE_STATES, variants.LOCALES):
            with machine.sidecar.hold():
                variants.windows(machine, release, language, ucrt=release != "2012R2" or state != "none")
                variants.rewrite(machine, state, language)
            seen = observe(Direct(machine))  # type: ignore[arg-type]
            judgement = judge(seen)
            action = action_for(judgement, "present")
            try:
                refuse_unsuitable(seen, action)
                found[release, product, state, language] = f"{judgement.state} -> {action}"
            except Refused as refusal:
                found[release, product, state, language] = f"{judgement.state} -> refused ({refusal.reason})"
    return found


def test_every_cell(verdicts: dict[tuple[str, str, str, str], str]) -> None:
    assert len(verdicts) == 5 * 4 * 5 * 3
    for (release, dummy_product, state, dummy_language), verdict in verdicts.items():
        # The servers of release 2012 R2 without URL Rewrite are made without the Universal C Runtime.
        wanted = "absent -> refused (ucrt_missing)" if (release, state) == ("2012R2", "none") else EXPECTED[state]
        assert verdict == wanted, (release, dummy_product, state, dummy_language)


def test_the_table(verdicts: dict[tuple[str, str, str, str], str]) -> None:
    releases = list(dict.fromkeys(key[0] for key in verdicts))
    lines = ["| product | URL Rewrite | language | " + " | ".join(releases) + " |", "|---" * (3 + len(releases)) + "|"]
    for product, state, language in dict.fromkeys(key[1:] for key in verdicts):
        lines.append(f"| {product} | {state} | {language} | " + " | ".join(verdicts[release, product, state, language] for release in releases) + " |")
    assert len(lines) == 2 + 4 * 5 * 3
    print("\n".join(lines))
    if os.environ.get("EXCHANGE_MITIGATION_VERDICTS"):
        pathlib.Path(os.environ["EXCHANGE_MITIGATION_VERDICTS"]).write_text("\n".join([*lines, ""]), "utf-8")
