# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Exchange organisation that all lab servers share, and its objects as Exchange's endpoint writes them (FACTS.md 4.2).

Property names and wire types are those of the recorded objects. At the endpoint's default serialization a complex property
is the string of it (CMDLETS.md 0.1, 10); with ``serialization = "full"`` it is an object with that ToString, as recorded.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import threading
import uuid
from typing import Any

from . import builds
from .directory import Directory
from .kernel import LabRefusal, Obj

DOMAIN = "lab.example"
NAME = "Lab"
_MULTI_VALUED = (
    "Microsoft.Exchange.Data.MultiValuedProperty`1[[System.String, mscorlib, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089]]",
    "Microsoft.Exchange.Data.MultiValuedPropertyBase",
    "System.Object",
)
_BASES = (
    "Microsoft.Exchange.Data.Directory.Management.ADPresentationObject",
    "Microsoft.Exchange.Data.Directory.ADObject",
    "Microsoft.Exchange.Data.Directory.ADRawEntry",
    "Microsoft.Exchange.Data.ConfigurableObject",
    "System.Object",
)
_CONFIGURATION = f"CN={NAME},CN=Microsoft Exchange,CN=Services,CN=Configuration,DC=lab,DC=example"
_SERVERS = f"CN=Servers,CN=Exchange Administrative Group (FYDIBOHF23SPDLT),CN=Administrative Groups,{_CONFIGURATION}"
_GROUPS = f"CN=Database Availability Groups,CN=Exchange Administrative Group (FYDIBOHF23SPDLT),CN=Administrative Groups,{_CONFIGURATION}"
_MULTI_VALUED_IDS = (
    "Microsoft.Exchange.Data.MultiValuedProperty`1[[Microsoft.Exchange.Data.Directory.ADObjectId, Microsoft.Exchange.Data.Directory, "
    "Version=15.0.0.0, Culture=neutral, PublicKeyToken=31bf3856ad364e35]]",
    *_MULTI_VALUED[1:],
)
_CREATED = datetime.datetime(2021, 7, 29, 5, 47, 28, tzinfo=datetime.timezone.utc)

#: The attributes of a server that EM uses, with their first values.
SERVER_DEFAULTS: dict[str, Any] = {
    "MitigationsEnabled": True,
    "MitigationsApplied": None,
    "MitigationsBlocked": None,
    "MitigationsAppliedTime": None,
    "DataCollectionEnabled": True,
    "InternetWebProxy": None,
    "InternetWebProxyBypassList": None,
}


def _from_json(name: str, value: Any) -> Any:
    return datetime.datetime.fromisoformat(value) if value is not None and name in ("WhenChanged", "MitigationsAppliedTime") else value


@dataclasses.dataclass(frozen=True)
class Server:
    """What does not change about an Exchange server object."""

    plan: builds.ServerPlan
    guid: uuid.UUID

    @property
    def name(self) -> str:
        """The server's short name."""
        return self.plan.name

    @property
    def fqdn(self) -> str:
        """The server's DNS name."""
        return f"{self.name.lower()}.{DOMAIN}"

    @property
    def build(self) -> builds.Version:
        """The build that is really installed."""
        return builds.parse(self.plan.build)

    @property
    def distinguished_name(self) -> str:
        """Where the object is in the directory."""
        return f"CN={self.name},{_SERVERS}"

    @property
    def legacy_dn(self) -> str:
        """The object's legacy name."""
        return f"/o={NAME}/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Configuration/cn=Servers/cn={self.name}"


class Organization:
    """Servers and settings in a directory of two domain controllers; every server reads from one of them."""

    def __init__(self, lag: float = 0.25, mitigations_enabled: bool | None = True, serialization: str = "default") -> None:
        if serialization not in {"default", "full"}:
            raise LabRefusal(f"serialization {serialization!r} is neither default nor full")
        self.serialization = serialization
        self.directory = Directory((f"dc1.{DOMAIN}", f"dc2.{DOMAIN}"), lag)
        self.guid = uuid.uuid5(uuid.NAMESPACE_DNS, DOMAIN)
        self.servers: list[Server] = []
        self._by_identity: dict[str, Server] = {}
        self.directory.create(NAME, {"MitigationsEnabled": mitigations_enabled, "WhenChanged": _CREATED})

    # -- disk

    def keep(self, path: pathlib.Path) -> None:
        """Take over what the file holds, if there is one, and write it anew after every change."""
        if path.exists():
            for item, attributes in json.loads(path.read_text("utf-8")).items():
                known = self.directory.read(self.directory.controllers[0], item)
                if known is not None:
                    self.directory.write(
                        self.directory.controllers[0], item, {name: _from_json(name, value) for name, value in attributes.items() if name in known}
                    )
            self.directory.settle()
        lock = threading.Lock()

        def save() -> None:
            with lock:
                beside = path.with_suffix(".part")
                beside.write_text(json.dumps(self.directory.newest(), indent=1, default=lambda value: value.isoformat()), "utf-8")
                beside.replace(path)

        self.directory.changed = save
        save()

    # -- servers

    def add(self, plan: builds.ServerPlan) -> Server:
        """Add a server object."""
        server = Server(plan, uuid.uuid5(self.guid, plan.name))
        names = (server.name, server.fqdn, server.distinguished_name, str(server.guid), server.legacy_dn)
        if any(name.lower() in self._by_identity for name in names):
            raise LabRefusal(f"there are two servers {plan.name}")
        self.directory.create(server.name, {**SERVER_DEFAULTS, "WhenChanged": _CREATED})
        self.servers.append(server)
        self._by_identity.update({name.lower(): server for name in names})
        return server

    def find(self, identity: str) -> Server | None:
        """Return the server of a name, FQDN, distinguished name, GUID or legacy name, or None."""
        if "*" in identity:
            raise LabRefusal(f"identity {identity!r}: the lab does not know what Exchange does with a wildcard here")
        return self._by_identity.get(identity.lower())

    def controller_of(self, machine: str) -> str:
        """Return the domain controller that a server reads from and writes to."""
        controllers = self.directory.controllers
        server = self.find(machine)
        return controllers[self.servers.index(server) % len(controllers)] if server else controllers[0]

    # -- attributes

    def settings(self, name: str, controller: str | None = None) -> dict[str, Any]:
        """Return the attributes of a server, or of the organisation (``NAME``), on its own or the named domain controller."""
        found = self.directory.read(controller or self.controller_of(name), name)
        if found is None:
            raise LabRefusal(f"no object {name} in the directory")
        return found

    def change(self, name: str, attributes: dict[str, Any], controller: str | None = None) -> None:
        """Change attributes of a server or of the organisation on its own or the named domain controller."""
        now = datetime.datetime.now(datetime.timezone.utc)
        self.directory.write(controller or self.controller_of(name), name, {**attributes, "WhenChanged": now})

    @property
    def mitigations_enabled(self) -> bool | None:
        """The organisation's switch, as the first domain controller knows it."""
        value = self.settings(NAME)["MitigationsEnabled"]
        return None if value is None else bool(value)

    @mitigations_enabled.setter
    def mitigations_enabled(self, value: bool | None) -> None:
        self.change(NAME, {"MitigationsEnabled": value})
        self.directory.settle()

    # -- objects on the wire

    def organization_object(self, controller: str, with_em: bool, full: bool = False) -> Obj:
        """Return what Get-OrganizationConfig writes; ``with_em``: whether the answering server knows EM's properties."""
        settings = self.settings(NAME, controller)
        props: dict[str, Any] = {
            "OrganizationId": self._complex("", "Microsoft.Exchange.Data.Directory.OrganizationId"),
            "Name": NAME,
            "Identity": self._id(NAME, _CONFIGURATION, self.guid),
            "Guid": self.guid,
            "ObjectVersion": 16763,
            "ActivityBasedAuthenticationTimeoutEnabled": True,
            "CustomerFeedbackEnabled": True,
            "EwsEnabled": None,
            "IPListBlocked": self._list([]),
            "MailTipsAllTipsEnabled": True,
            "PublicFoldersLockedForMigration": False,
            "MapiHttpEnabled": True,
            "OAuth2ClientProfileEnabled": True,
            "LegacyExchangeDN": f"/o={NAME}",
            "DisplayName": "",
            "IsMixedMode": False,
            "AdminDisplayVersion": self._complex("0.20 (15.0.0.0)", "Microsoft.Exchange.Data.ExchangeObjectVersion"),
            "EnableDownloadDomains": False,
        }
        if with_em:
            props["MitigationsEnabled"] = settings["MitigationsEnabled"]
        props |= self._tail(
            f"{_CONFIGURATION}", self.guid, ("top", "container", "msExchOrganizationContainer"), "ms-Exch-Organization-Container", settings, controller
        )
        return Obj(("Microsoft.Exchange.Data.Directory.Management.OrganizationConfig", *_BASES), self._shown(props, full), to_string=NAME)

    def server_object(self, server: Server, controller: str, with_em: bool, status: bool = False, full: bool = False) -> Obj:
        """Return what Get-ExchangeServer writes for one server."""
        settings = self.settings(server.name, controller)
        plan, build = server.plan, server.build
        edge = plan.role == "Edge"
        known = with_em and builds.has_em(build)
        props: dict[str, Any] = {
            "Name": server.name,
            "DataPath": self._complex("C:\\Program Files\\Microsoft\\Exchange Server\\V15\\Mailbox", "Microsoft.Exchange.Data.LocalLongFullPath"),
            "Domain": DOMAIN,
            "Edition": self._enum(plan.edition, {"Standard": 1, "Enterprise": 3}, "Microsoft.Exchange.Data.ServerEditionType"),
            "ExchangeLegacyDN": server.legacy_dn,
            "ExchangeLegacyServerRole": 0,
            "Fqdn": server.fqdn,
            "CustomerFeedbackEnabled": None,
            "InternetWebProxy": None if settings["InternetWebProxy"] is None else Obj(("System.Uri",), value=settings["InternetWebProxy"]),
            "InternetWebProxyBypassList": self._list(settings["InternetWebProxyBypassList"]),
            "IsHubTransportServer": not edge,
            "IsClientAccessServer": not edge,
            "IsExchange2007OrLater": True,
            "IsEdgeServer": edge,
            "IsMailboxServer": not edge,
            "IsE14OrLater": True,
            "IsE15OrLater": True,
            "IsProvisionedServer": False,
            "IsUnifiedMessagingServer": plan.product == "Exchange2016",
            "IsFrontendTransportServer": not edge,
            "NetworkAddress": [f"ncacn_ip_tcp:{server.fqdn}", f"netbios:{server.name}"],
            "OrganizationalUnit": f"{DOMAIN}/{server.name}",
            "AdminDisplayVersion": self._version(build),
            "Site": self._id(
                f"{DOMAIN}/Configuration/Sites/{plan.site}", f"CN={plan.site},CN=Sites,CN=Configuration,DC=lab,DC=example", uuid.uuid5(self.guid, plan.site)
            ),
            "ServerRole": self._enum(plan.role, {"Mailbox": 2, "Edge": 64}, "Microsoft.Exchange.Data.Directory.SystemConfiguration.ServerRole"),
            "ErrorReportingEnabled": None,
            "StaticDomainControllers": self._list([]),
            "StaticGlobalCatalogs": self._list([]),
            "StaticConfigDomainController": "",
            "MonitoringGroup": "",
            "CurrentDomainControllers": self._list([controller] if status else []),
            "CurrentGlobalCatalogs": self._list([controller] if status else []),
            "CurrentConfigDomainController": controller if status else "",
            "ProductID": "02064-004-0605003-02545",
            "IsExchangeTrialEdition": False,
            "IsExpiredExchangeTrialEdition": False,
            "RemainingTrialPeriod": self._complex("00:00:00", "Microsoft.Exchange.Data.EnhancedTimeSpan"),
        }
        if known:
            props["MitigationsEnabled"] = settings["MitigationsEnabled"]
            if builds.has_applied_time(build):
                props["MitigationsAppliedTime"] = settings["MitigationsAppliedTime"]
            props["MitigationsApplied"] = self._list(settings["MitigationsApplied"])
            props["MitigationsBlocked"] = self._list(settings["MitigationsBlocked"])
            props["DataCollectionEnabled"] = settings["DataCollectionEnabled"]
            if plan.product == "ExchangeSE":
                props |= {"RingLevel": "1", "FeaturesApproved": None, "FeaturesAwaitingAdminApproval": None, "FeaturesEnabled": None}
                props |= {"FeaturesBlocked": None, "FeaturesDisabled": None, "LastFlightingServiceRunTime": None}
        props["Identity"] = self._id(server.name, server.distinguished_name, server.guid)
        props |= self._tail(server.distinguished_name, server.guid, ("top", "server", "msExchExchangeServer"), "ms-Exch-Exchange-Server", settings, controller)
        return Obj(("Microsoft.Exchange.Data.Directory.Management.ExchangeServer", *_BASES), self._shown(props, full), to_string=server.name)

    def group_objects(self, controller: str, full: bool = False) -> list[Obj]:
        """Return what Get-DatabaseAvailabilityGroup writes: each group with its members, ordered by name."""
        names = sorted({server.plan.dag for server in self.servers if server.plan.dag})
        return [self._group(name, [server for server in self.servers if server.plan.dag == name], controller, full) for name in names]

    def _group(self, name: str, members: list[Server], controller: str, full: bool) -> Obj:
        ids = [self._id(server.name, server.distinguished_name, server.guid) for server in members]
        shown: list[Any] = ids if full or self.serialization == "full" else [one.to_string for one in ids]
        dn = f"CN={name},{_GROUPS}"
        props: dict[str, Any] = {"Name": name, "Servers": Obj(_MULTI_VALUED_IDS, value=shown), "WitnessServer": f"witness.{DOMAIN}"}
        props |= {"DistinguishedName": dn, "Guid": uuid.uuid5(self.guid, name), "OriginatingServer": controller, "IsValid": True}
        return Obj(("Microsoft.Exchange.Data.Directory.SystemConfiguration.DatabaseAvailabilityGroup", *_BASES[1:]), props, to_string=name)

    def _tail(self, dn: str, guid: uuid.UUID, classes: tuple[str, ...], category: str, settings: dict[str, Any], controller: str) -> dict[str, Any]:
        changed = settings["WhenChanged"]
        return {
            "IsValid": True,
            "ExchangeVersion": self._complex("0.1 (8.0.535.0)", "Microsoft.Exchange.Data.ExchangeObjectVersion"),
            "DistinguishedName": dn,
            "Guid": guid,
            "ObjectCategory": self._id(
                f"{DOMAIN}/Configuration/Schema/{category}", f"CN={category},CN=Schema,CN=Configuration,DC=lab,DC=example", uuid.uuid5(self.guid, category)
            ),
            "ObjectClass": self._list(list(classes)),
            "WhenChanged": changed,
            "WhenCreated": _CREATED,
            "WhenChangedUTC": changed,
            "WhenCreatedUTC": _CREATED,
            "OrganizationId": self._complex("", "Microsoft.Exchange.Data.Directory.OrganizationId"),
            "Id": self._id(dn.partition(",")[0].partition("=")[2], dn, guid),
            "OriginatingServer": controller,
            "ObjectState": self._enum("Unchanged", {"Unchanged": 1}, "Microsoft.Exchange.Data.ObjectState"),
        }

    def _shown(self, props: dict[str, Any], full: bool) -> dict[str, Any]:
        """Return the properties as the session's serialization level leaves them: below full a complex one is its text."""
        if full or self.serialization == "full":
            return props
        return {name: value.to_string if isinstance(value, Obj) and value.to_string is not None else value for name, value in props.items()}

    @staticmethod
    def _list(values: list[str] | None) -> Obj | None:
        return None if values is None else Obj(_MULTI_VALUED, value=list(values))

    @staticmethod
    def _complex(text: str, kind: str, props: dict[str, Any] | None = None) -> Obj:
        return Obj((kind, "System.Object"), props or {}, to_string=text)

    @staticmethod
    def _enum(text: str, numbers: dict[str, int], kind: str) -> Obj:
        return Obj((kind, "System.Enum", "System.ValueType", "System.Object"), value=numbers[text], to_string=text)

    def _id(self, text: str, dn: str, guid: uuid.UUID) -> Obj:
        rdn, dummy, parent = dn.partition(",")
        props = {
            "IsDeleted": False,
            "Rdn": rdn,
            "Parent": parent,
            "DistinguishedName": dn,
            "DomainId": DOMAIN,
            "ObjectGuid": guid,
            "Name": rdn.partition("=")[2],
        }
        return self._complex(text, "Microsoft.Exchange.Data.Directory.ADObjectId", props)

    def _version(self, build: builds.Version) -> Obj:
        text = builds.display_version(build)
        revision = int(text.rstrip(")").rpartition(".")[2])
        props = {"Major": build[0], "Minor": build[1], "Build": build[2], "Revision": revision, "FilePatchLevelDescription": None}
        return self._complex(text, "Microsoft.Exchange.Data.ServerVersion", props)
