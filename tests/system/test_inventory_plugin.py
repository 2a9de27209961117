# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin through ansible-inventory and ansible-playbook against the lab: hosts, groups, cache, and names that would like to run."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from playbooks import environment, sessions

#: Another version of Ansible can be tried with the folder of its programs.
PROGRAMS = pathlib.Path(os.environ.get("EXCHANGE_MITIGATION_ANSIBLE_BIN") or pathlib.Path(sys.executable).parent)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Four servers; their site is a template that would leave a file."""
    from lab import builds
    from lab.fleet import Fleet

    marker = tmp_path_factory.mktemp("hostile") / "ran"
    site = "{{ lookup('pipe', 'touch " + str(marker).replace("/", "${IFS%??}") + "') }}"
    plans = builds.default_plan(4)
    plans = [dataclasses.replace(plan, site=site if plan.name == "EX2" else plan.site) for plan in plans]
    with Fleet(plans) as running:
        running.marker = marker
        yield running
        assert running.scripts_received == 0, "a script was sent"
        assert running._server.open_shells() == [], "a session was left open"


@dataclasses.dataclass
class World:
    """A folder with an inventory file, and the programs that read it."""

    fleet: Any
    folder: pathlib.Path
    variables: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def file(self) -> pathlib.Path:
        """The inventory file."""
        return self.folder / "lab.exchange.yml"

    def write(self, **options: Any) -> None:
        """Write the inventory file, with what the lab needs."""
        config = {
            "plugin": "exchange.mitigation.organization",
            "exchange_host": "127.0.0.1",
            "exchange_port": self.fleet.port(self.fleet.machines[0], "web_https"),
            "exchange_scheme": "https",
            "exchange_auth": "basic",
            "exchange_username": self.fleet.viewer,
            "exchange_password": self.fleet.users[self.fleet.viewer],
            "exchange_ca_path": str(self.fleet.pki.tls_ca_path),
            **options,
        }
        self.file.write_text(yaml.safe_dump({name: value for name, value in config.items() if value is not None}), "utf-8")

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of Ansible."""
        command = [str(PROGRAMS / program), "-i", str(self.file), *arguments]
        kept = {**environment(self.folder), "ANSIBLE_LOCALHOST_WARNING": "0", **self.variables}
        return subprocess.run(command, env=kept, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)

    def list(self, *arguments: str) -> dict[str, Any]:
        """Return what ansible-inventory --list prints."""
        done = self.run("ansible-inventory", "--list", *arguments)
        assert done.returncode == 0, done.stderr
        assert "[WARNING]" not in done.stderr, done.stderr
        return dict(json.loads(done.stdout, object_hook=_plain))


def _plain(value: dict[str, Any]) -> Any:
    """Read the way in which Ansible prints a text that is no template."""
    return value["__ansible_unsafe"] if set(value) == {"__ansible_unsafe"} else value


@pytest.fixture
def world(fleet: Any, tmp_path: pathlib.Path) -> World:
    fleet.access_log.clear()
    return World(fleet, tmp_path)


def hosts(listed: dict[str, Any], group: str) -> list[str]:
    return sorted(name.partition(".")[0] for name in listed.get(group, {}).get("hosts", []))


def test_hosts_and_groups(world: World) -> None:
    world.write()
    listed = world.list()
    assert hosts(listed, "exchange_servers") == ["ex1", "ex2", "ex3", "ex4"]
    products = [hosts(listed, f"exchange_{name}") for name in ("2016", "2019", "se")]
    assert sorted(name for some in products for name in some) == ["ex1", "ex2", "ex3", "ex4"] and all(products)
    assert hosts(listed, "exchange_role_mailbox") == ["ex1", "ex2", "ex3", "ex4"]
    assert hosts(listed, "exchange_em_on")
    assert sessions(world.fleet) == 1
    variables = listed["_meta"]["hostvars"]
    for name, found in variables.items():
        assert found["ansible_host"] == name
        assert found["exchange_server"]["fqdn"] == name
        assert set(found) == {"ansible_host", "exchange_server"}
    graph = world.run("ansible-inventory", "--graph")
    assert "|--@exchange_servers:" in graph.stdout


def test_filters_and_names(world: World) -> None:
    world.write(products=["Exchange2019", "ExchangeSE"], exclude=["ex4*"], hostnames="name")
    listed = world.list()
    assert "EX4" not in hosts(listed, "exchange_servers")
    assert "exchange_2016" not in listed
    assert all(name.isupper() for name in hosts(listed, "exchange_servers"))
    world.write(sites=["Nowhere"])
    done = world.run("ansible-inventory", "--list")
    assert "exchange_servers" not in json.loads(done.stdout)
    world.write(roles=["Edge"])
    assert "exchange_servers" not in json.loads(world.run("ansible-inventory", "--list").stdout)


def test_constructed_options(world: World) -> None:
    world.write(
        compose={"ansible_connection": "'psrp'", "short": "exchange_server.name | lower"},
        groups={"behind": "exchange_server.name == 'EX1'"},
        keyed_groups=[{"key": "exchange_server.product", "prefix": "by"}],
        strict=True,
    )
    listed = world.list()
    assert hosts(listed, "behind") == ["ex1"]
    assert hosts(listed, "by_Exchange2019")
    assert {found["ansible_connection"] for found in listed["_meta"]["hostvars"].values()} == {"psrp"}
    assert sorted(found["short"] for found in listed["_meta"]["hostvars"].values()) == ["ex1", "ex2", "ex3", "ex4"]
    world.write(compose={"broken": "nothing.here"}, strict=True)
    done = world.run("ansible-inventory", "--list")
    assert "broken" in done.stderr


def test_the_cache_spares_the_session_until_it_is_flushed(world: World) -> None:
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(world.folder / "cache"), "cache_timeout": 600}
    world.write(**cache)
    first = world.list()
    assert (world.list(), sessions(world.fleet)) == (first, 1)
    (world.folder / "nothing.yml").write_text("- hosts: exchange_servers\n  gather_facts: false\n  tasks: []\n", "utf-8")
    assert world.run("ansible-playbook", "nothing.yml", "--flush-cache", "--list-hosts").returncode == 0
    assert sessions(world.fleet) == 2
    password = world.fleet.users[world.fleet.viewer]
    kept = list((world.folder / "cache").iterdir())
    assert kept and not any(password in path.read_text("utf-8") for path in kept)
    world.write(**cache, products=["Exchange2019"])  # filters work on what is cached
    assert len(hosts(world.list(), "exchange_servers")) < 4
    assert sessions(world.fleet) == 2
    world.write(cache=False)
    world.list()
    world.list()
    assert sessions(world.fleet) == 4


@pytest.mark.parametrize("cached", [False, True], ids=["asked", "cached"])
def test_a_site_that_is_a_template_stays_text(world: World, cached: bool) -> None:
    more = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(world.folder / "cache")} if cached else {}
    world.write(
        compose={"site": "exchange_server.site", "again": "exchange_server.site ~ ''"},
        keyed_groups=[{"key": "exchange_server.site", "prefix": "site"}],
        **more,
    )
    for dummy in range(2 if cached else 1):
        listed = world.list()
    site = listed["_meta"]["hostvars"][next(name for name in listed["_meta"]["hostvars"] if name.startswith("ex2"))]["exchange_server"]["site"]
    assert "lookup(" in site
    (group,) = [name for name in listed if name.startswith("exchange_site_lookup")]
    assert group.replace("_", "").isalnum() and hosts(listed, group) == ["ex2"]
    tasks = [
        {"ansible.builtin.set_fact": {"one": "{{ exchange_server.site }}", "two": "{{ site | default('') }} {{ again | default('') }}"}},
        {"ansible.builtin.debug": {"msg": "{{ exchange_server }} {{ one }} {{ two }} {{ group_names }} {{ inventory_hostname }}"}},
        {"ansible.builtin.debug": {"var": "exchange_server.site"}},
    ]
    play = [{"hosts": "exchange_servers", "connection": "local", "gather_facts": False, "tasks": tasks}]
    (world.folder / "play.yml").write_text(yaml.safe_dump(play), "utf-8")
    done = world.run("ansible-playbook", "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lookup(" in done.stdout
    assert not world.fleet.marker.exists()


def test_credentials_from_the_environment_a_template_or_a_vault(world: World) -> None:
    user, password = world.fleet.viewer, world.fleet.users[world.fleet.viewer]
    world.write(exchange_username=None, exchange_password=None)
    world.variables = {"EXCHANGE_MITIGATION_EXCHANGE_USERNAME": user, "EXCHANGE_MITIGATION_EXCHANGE_PASSWORD": password}
    assert len(hosts(world.list(), "exchange_servers")) == 4
    world.variables = {"READER": password}
    world.write(exchange_password="{{ lookup('ansible.builtin.env', 'READER') }}")
    assert len(hosts(world.list(), "exchange_servers")) == 4
    (world.folder / "key").write_text("a vault's key", "utf-8")
    encrypted = subprocess.run(
        [str(PROGRAMS / "ansible-vault"), "encrypt_string", "--vault-password-file", "key", password, "--name", "exchange_password"],
        env=environment(world.folder), cwd=world.folder, capture_output=True, text=True, timeout=60, check=True,
    ).stdout
    world.write(exchange_password=None)
    world.file.write_text(world.file.read_text("utf-8") + encrypted, "utf-8")
    assert len(hosts(world.list("--vault-password-file", "key"), "exchange_servers")) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"exchange_password": "Pl4nted-wrong"}, ["127.0.0.1"]),
        ({"exchange_port": 9}, ["127.0.0.1"]),
        ({"exchange_scheme": "http"}, ["basic", "https"]),
        ({"exchange_username": None, "exchange_password": None}, ["exchange_username"]),
        ({"exchange_host": None}, ["exchange_host"]),
    ],
    ids=["password", "nobody-there", "basic-in-the-clear", "no-credentials", "no-host"],
)
def test_a_failure_is_a_sentence_without_a_secret(world: World, options: dict[str, Any], words: list[str]) -> None:
    world.write(**options)
    done = world.run("ansible-inventory", "--list", "-vvvv")
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert "Pl4nted" not in done.stderr + done.stdout


def test_a_file_of_another_name_is_left_to_others(world: World) -> None:
    world.write()
    other = world.file.rename(world.folder / "lab.yaml")
    command = [str(PROGRAMS / "ansible-inventory"), "-i", str(other), "--list"]
    done = subprocess.run(command, env=environment(world.folder), cwd=world.folder, capture_output=True, text=True, timeout=60, check=False)
    assert "exchange_servers" not in done.stdout
    assert sessions(world.fleet) == 0
