# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole corpus through the module feed in one task of one playbook, as a user would loop over files. Run by hand.

``python -m attacks.loop`` (with tests and the collection on the path) compares every outcome and prints the time. Exit code 0 when all are right.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import yaml

from .corpus import write

#: The corpus has one signer for both domains; in local the names have to be said.
_NAMES: dict[str, dict[str, str]] = {"microsoft": {}, "local": {"common_name": "Microsoft Exchange XML Signing", "organization": "Microsoft Corporation"}}


def playbook(folder: pathlib.Path) -> list[object]:
    """Return a play of one looping task over the manifest; every document gets a state of its own, since some are older than others."""
    manifest = folder / "manifest.json"
    entries = json.loads(manifest.read_text("utf-8"))
    for entry in entries:
        entry["crls"] = [str(folder / name) for name in entry["crls"]]
        entry["names"] = _NAMES[entry["domain"]]
    (folder / "loop.json").write_text(json.dumps(entries), "utf-8")
    trust = {
        "domain": "{{ item.domain }}",
        "roots": [str(folder / "root.pem")],
        "timestamp_roots": [str(folder / "timestamp_root.pem")],
        "signer_common_name": "{{ item.names.common_name | default(omit) }}",
        "signer_organization": "{{ item.names.organization | default(omit) }}",
        "crls": "{{ item.crls }}",
        "denied_sha256": "{{ item.denied_sha256 }}",
        "revocation": "{{ item.revocation }}",
    }
    task = {
        "name": "Prove",
        "exchange.mitigation.feed": {
            "source": f"{folder}/{{{{ item.file }}}}",
            "state_dir": f"{folder}/state/{{{{ item.file }}}}",
            "verify_at": "{{ item.verify_at | default(omit, true) }}",
            "trust": trust,
        },
        "loop": f"{{{{ lookup('ansible.builtin.file', '{folder}/loop.json') | from_json }}}}",
        "loop_control": {"label": "{{ item.file }}"},
        "register": "proven",
        "ignore_errors": True,
    }
    reasons = "{{ proven.results | map(attribute='reason', default='') | list | to_json }}"
    keep = {"name": "Keep", "ansible.builtin.copy": {"content": reasons, "dest": str(folder / "out.json")}}
    return [{"name": "Corpus", "hosts": "localhost", "gather_facts": False, "tasks": [task, keep]}]


def main() -> int:
    """Run the playbook and print what was wrong, and the time."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write(folder)
        (folder / "state").mkdir()
        (folder / "loop.yml").write_text(yaml.safe_dump(playbook(folder)), "utf-8")
        program = pathlib.Path(sys.executable).with_name("ansible-playbook")
        begin = time.perf_counter()
        done = subprocess.run(
            [str(program), str(folder / "loop.yml")],
            env=os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_INJECT_FACT_VARS": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - begin
        if not (folder / "out.json").exists():
            print(done.stdout[-4000:], done.stderr[-4000:])
            return 1
        found = json.loads((folder / "out.json").read_text("utf-8"))
        wanted = [(entry["file"], entry["reason"] or "") for entry in json.loads((folder / "manifest.json").read_text("utf-8"))]
        wrong = [f"{file}: {reason!r} instead of {expected!r}" for (file, expected), reason in zip(wanted, found, strict=True) if reason != expected]
    print("\n".join([*wrong, f"{len(wanted)} documents, {len(wrong)} wrong, {took:.0f} s"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
