# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin organization: the servers of an Exchange organisation as hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: organization
short_description: The servers of an Exchange organization, asked from one of them
version_added: 0.1.0
author:
  - exchange.mitigation contributors (@exchange-mitigation)
description:
  - Opens one session to the remote PowerShell endpoint of one Exchange server and makes a host of each server that C(Get-ExchangeServer) shows.
  - Every host is in the group C(exchange_servers), and in groups by product (C(exchange_2016), C(exchange_2019), C(exchange_se), C(exchange_older),
    C(exchange_unknown)), by role (C(exchange_role_mailbox)), by site (C(exchange_site_) and the site's name in small letters), and by the switches of
    Emergency Mitigation (C(exchange_em_on), C(exchange_em_off), C(exchange_em_unsupported), C(exchange_em_unknown)).
  - C(ansible_host) is the server's FQDN. What is known of the server is in the variable C(exchange_server), with the keys that
    M(exchange.mitigation.organization_info) documents for a server, and C(em_state).
  - How to connect to the hosts belongs into group variables of C(exchange_servers).
  - The file must be named C(exchange.yml) or C(exchange.yaml), or end so, as in C(prod.exchange.yml).
  - What a server says is never a template.
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
requirements:
  - pypsrp >= 0.8.0 on the controller
  - gssapi and krb5 (C(pip install pypsrp[kerberos])) on the controller for O(exchange_auth=kerberos)
options:
  plugin:
    description:
      - Token that says that the file is for this plugin.
    type: str
    required: true
    choices:
      - exchange.mitigation.organization
  exchange_host:
    description:
      - Name of an Exchange server that is asked. With Kerberos it must be the name that the service principal has, usually the FQDN.
      - May be a template.
    type: str
    required: true
    env:
      - name: EXCHANGE_MITIGATION_EXCHANGE_HOST
  exchange_port:
    description:
      - Port of the endpoint. The default is V(80) for V(http) and V(443) for V(https).
    type: int
    env:
      - name: EXCHANGE_MITIGATION_EXCHANGE_PORT
  exchange_scheme:
    description:
      - Whether the endpoint is reached by HTTP or HTTPS. Messages over HTTP are encrypted by the authentication protocol.
    type: str
    choices:
      - http
      - https
    default: http
    env:
      - name: EXCHANGE_MITIGATION_EXCHANGE_SCHEME
  exchange_auth:
    description:
      - How to authenticate. A default installation of Exchange offers Kerberos only. V(basic) is refused over HTTP.
    type: str
    choices:
      - kerberos
      - negotiate
      - ntlm
      - basic
    default: kerberos
    env:
      - name: EXCHANGE_MITIGATION_EXCHANGE_AUTH
  exchange_username:
    description:
      - User for the endpoint. The role View-Only Organization Management is enough.
      - May be a template. With Kerberos it can be left out where a ticket is at hand.
    type: str
    env:
      - name: EXCHANGE_MITIGATION_EXCHANGE_USERNAME
  exchange_password:
    description:
      - Password of the user. May be a template, or a value that Ansible Vault encrypted.
    type: str
    env:
      - name: EXCHANGE_MITIGATION_EXCHANGE_PASSWORD
  exchange_ca_path:
    description:
      - File with the certificates of the authorities that the endpoint's TLS certificate is checked against.
    type: path
    env:
      - name: EXCHANGE_MITIGATION_EXCHANGE_CA_PATH
  exchange_validate_certs:
    description:
      - Whether the endpoint's TLS certificate is checked.
    type: bool
    default: true
    env:
      - name: EXCHANGE_MITIGATION_EXCHANGE_VALIDATE_CERTS
  hostnames:
    description:
      - The name of a host in the inventory, the server's FQDN or its name.
    type: str
    choices:
      - fqdn
      - name
    default: fqdn
  products:
    description:
      - The products of which servers are taken.
    type: list
    elements: str
    choices:
      - Exchange2016
      - Exchange2019
      - ExchangeSE
      - older
      - unknown
    default:
      - Exchange2016
      - Exchange2019
      - ExchangeSE
  roles:
    description:
      - Servers with one of these roles are taken. An empty list takes all, Edge servers included.
    type: list
    elements: str
    default:
      - Mailbox
  sites:
    description:
      - Servers in these Active Directory sites are taken. An empty list takes all.
    type: list
    elements: str
    default: []
  exclude:
    description:
      - Patterns of names or FQDNs of servers that are left out, such as V(LAB*).
    type: list
    elements: str
    default: []
seealso:
  - module: exchange.mitigation.organization_info
notes:
  - With O(cache=true), nothing is asked while the cache is fresh. C(ansible-playbook) takes C(--flush-cache).
  - The password is not in the cache.
"""

EXAMPLES = r"""
# exchange.yml: these two lines are enough, where a Kerberos ticket is at hand or the environment has the password.
plugin: exchange.mitigation.organization
exchange_host: ex1.example.com

# Basic over TLS instead, with an account that may only look.
exchange_scheme: https
exchange_auth: basic
exchange_username: EXAMPLE\reader
exchange_password: "{{ lookup('ansible.builtin.env', 'EXCHANGE_READER_PASSWORD') }}"
exchange_ca_path: /etc/pki/example/ca.pem

# Which servers are hosts.
products:
  - Exchange2019
  - ExchangeSE
exclude:
  - LAB*

# Asked at most once an hour.
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/ansible-inventory
cache_timeout: 3600

# Variables and groups of your own.
strict: true
compose:
  ansible_connection: "'psrp'"
  exchange_mitigation_canary: exchange_server.name == 'EX1'
groups:
  exchange_behind: exchange_server.build is version('15.2.1748.10', '<')
keyed_groups:
  - key: exchange_server.edition
    prefix: exchange_edition
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.exchange.mitigation.plugins.module_utils import _inventory
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import read_organization
from ansible_collections.exchange.mitigation.plugins.module_utils._options import EXCHANGE_OPTIONS
from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import clean
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import harmless
from ansible_collections.exchange.mitigation.plugins.plugin_utils._endpoints import exchange_session

#: Options that may be templates in the user's file. What comes from the environment is taken as it is.
TEMPLATES = ("exchange_host", "exchange_username", "exchange_password", "exchange_ca_path")


class NoConnection:
    """Stands in for the connection of a task: there is none yet, so nothing is taken from it."""

    transport = "none"

    def get_option(self, name: str) -> Any:
        """Have no option."""
        raise KeyError(name)


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]  # ansible-core has no type hints for them in every version
    """Hosts and groups from one session to Exchange."""

    NAME = "exchange.mitigation.organization"

    def verify_file(self, path: str) -> bool:
        """Tell whether a file is for this plugin, by its name."""
        return bool(super().verify_file(path)) and path.endswith(("exchange.yml", "exchange.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory. Raises AnsibleParserError with one sentence."""
        super().parse(inventory, loader, path, cache)
        config = self._read_config_data(path)
        wanted = _inventory.Wanted(
            tuple(self.get_option("products")),
            tuple(self.get_option("roles") or ()),
            tuple(self.get_option("sites") or ()),
            tuple(self.get_option("exclude") or ()),
            self.get_option("hostnames"),
        )
        found, unusable = _inventory.hosts(self._organization(path, config, cache), wanted)
        if unusable:
            shown = ", ".join(clean(name, 80) for name in unusable)
            self.display.warning(f"{self.NAME}: left out, because their names are no names of hosts or are there twice: {shown}")
        for host in found:
            self._add(host)

    def _organization(self, path: str, config: Mapping[str, Any], cache: bool) -> dict[str, Any]:
        """Return what organization_info returns, from the cache where it is used and fresh."""
        self.load_cache_plugin()
        key = self.get_cache_key(path)
        wished = self.get_option("cache")
        if wished and cache:
            kept = self._cache.get(key)
            if isinstance(kept, Mapping) and isinstance(kept.get("servers"), list):
                return dict(kept)
        organization = self._read(config)
        if wished:
            self._cache[key] = organization
        return organization

    def _read(self, config: Mapping[str, Any]) -> dict[str, Any]:
        # There is no host yet whose session could load the snap-in.
        params = {name: self._value(name, config) for name in EXCHANGE_OPTIONS if name != "exchange_access"}
        session = None
        try:
            session = exchange_session(NoConnection(), params)
            return dict(harmless(read_organization(session)))
        except MitigationError as exc:
            raise AnsibleParserError(f"{self.NAME}: {exc.message}") from None  # the cause's text is a library's, with addresses and users
        finally:
            if session is not None:
                session.close()

    def _value(self, name: str, config: Mapping[str, Any]) -> Any:
        value = self.get_option(name)
        if name not in TEMPLATES or value is None:
            return value
        if name in config:
            value = self.templar.template(value)
        return None if value is None else str(value)

    def _add(self, host: _inventory.Found) -> None:
        self.inventory.add_host(host.name)
        for group in host.groups:
            self.inventory.add_group(group)
            self.inventory.add_child(group, host.name)
        # What a server says is marked, so that no version of Ansible ever takes it for a template.
        variables: dict[str, Any] = {"ansible_host": wrap_var(host.address), "exchange_server": wrap_var(host.server)}
        for name, value in variables.items():
            self.inventory.set_variable(host.name, name, value)
        variables["inventory_hostname"] = host.name
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, host.name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host.name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host.name, strict=strict)
