# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own certificates: TLS, the feed's signing chain and its timestamp authority, made once per state folder.

The feed's signing leaf copies the extensions of Microsoft's (TRUST.md 1): both EKUs, no KeyUsage, a directoryName as only
alternative name. Keys are made once per process and role, so two state folders of one process share keys but not certificates;
a chain that must be foreign has roles of its own (``SIGNERS``).
"""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import os
import pathlib
import threading
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .kernel import LabRefusal

#: The EKU that Microsoft's leaf carries beside codeSigning (TRUST.md 1).
XML_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.311.76.57.1.11")
SIGNER_NAME = "Microsoft Exchange XML Signing"
SIGNER_ORGANIZATION = "Microsoft Corporation"

#: When the lab's first feed document was signed: before July 2026, so that EM services of every build can read it (FACTS.md 3).
RELEASED = datetime.datetime(2026, 6, 15, 16, 42, 8, tzinfo=datetime.timezone.utc)

#: Signing leaves a test can ask for, with what is wrong with each.
SIGNERS = {
    "good": "nothing",
    "expired": "valid from 2024-06-10 to 2025-06-09 only",
    "wrong-eku": "codeSigning alone",
    "wrong-cn": "another common name",
    "wrong-organization": "another organization",
    "unknown-root": "chains to a root that nobody trusts",
    "no-ca-intermediate": "issued by a certificate that is no CA",
    "small-key": "RSA 1024",
}

_KEYS: dict[str, rsa.RSAPrivateKey] = {}
_LOCK = threading.Lock()


def _key(role: str) -> rsa.RSAPrivateKey:
    with _LOCK:
        if role not in _KEYS:
            _KEYS[role] = rsa.generate_private_key(public_exponent=65537, key_size=1024 if role.endswith("small-key") else 2048)
        return _KEYS[role]


@dataclasses.dataclass(frozen=True)
class Identity:
    """A certificate, its key and the identity that issued it (None: itself)."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    issuer: Identity | None = None

    @property
    def chain(self) -> list[x509.Certificate]:
        """The certificates from this one up to the root."""
        return [self.certificate] + (self.issuer.chain if self.issuer else [])

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The unencrypted private key as PEM."""
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@dataclasses.dataclass(frozen=True)
class ServerFiles:
    """Where a TLS server finds its certificate chain and its key."""

    certificate: pathlib.Path
    key: pathlib.Path


def _name(common_name: str, organization: str = SIGNER_ORGANIZATION) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "Washington"),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "Redmond"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


class Pki:
    """All identities of one lab; every one is read from the folder or made and written there."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        self._identities: dict[str, Identity] = {}
        self._keys: dict[pathlib.Path, rsa.RSAPrivateKey] = {}
        self._lock = threading.RLock()

    # -- roots and intermediates

    @property
    def tls_ca(self) -> Identity:
        """The CA of the lab's web servers."""
        return self._authority("tls-ca", _name("Exchange Lab TLS CA", "Exchange Lab"), None)

    @property
    def feed_root(self) -> Identity:
        """The root of the feed's signing chain."""
        return self._authority("feed-root", _name("Lab Root Certificate Authority 2011"), None)

    @property
    def feed_intermediate(self) -> Identity:
        """The intermediate of the feed's signing chain."""
        return self._authority("feed-pca", _name("Lab Code Signing PCA 2024"), self.feed_root)

    @property
    def timestamp_root(self) -> Identity:
        """The root of the timestamp authority: another one than the feed's."""
        return self._authority("timestamp-root", _name("Lab Root Certificate Authority 2010"), None)

    @property
    def timestamp_intermediate(self) -> Identity:
        """The timestamp authority's intermediate; its certificatePolicies are critical, as Microsoft's are (TRUST.md 1)."""
        return self._authority("timestamp-pca", _name("Lab Time-Stamp PCA 2010"), self.timestamp_root, critical_policies=True)

    # -- leaves

    def signer(self, variant: str = "good") -> Identity:
        """Return a signing leaf of ``SIGNERS``."""
        if variant not in SIGNERS:
            raise LabRefusal(f"no signer {variant!r}; there are {', '.join(SIGNERS)}")
        begin, end = min(self.now - datetime.timedelta(days=30), RELEASED - datetime.timedelta(days=105)), self.now + datetime.timedelta(days=300)
        if variant == "expired":
            begin, end = (datetime.datetime(year, 6, day, 18, 44, 12, tzinfo=datetime.timezone.utc) for year, day in ((2024, 10), (2025, 9)))
        issuer = self.feed_intermediate
        if variant == "unknown-root":
            issuer = self._authority(
                "unknown-pca", _name("Lab Code Signing PCA 2024"), self._authority("unknown-root", _name("Lab Root Certificate Authority 2011"), None)
            )
        elif variant == "no-ca-intermediate":
            plain: list[tuple[x509.ExtensionType, bool]] = [(x509.BasicConstraints(ca=False, path_length=None), True)]
            issuer = self._identity("not-a-ca", _name("Lab Code Signing Clerk"), issuer, RELEASED - datetime.timedelta(days=3650), end, plain)
        name = _name(
            "Microsoft Windows" if variant == "wrong-cn" else SIGNER_NAME,
            "Contoso Ltd" if variant == "wrong-organization" else SIGNER_ORGANIZATION,
        )
        usages = [ExtendedKeyUsageOID.CODE_SIGNING] + ([] if variant == "wrong-eku" else [XML_SIGNING])
        place = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Lab Operations"), x509.NameAttribute(NameOID.SERIAL_NUMBER, "464868+464879")])
        crl = x509.DistributionPoint([x509.UniformResourceIdentifier("http://lab.invalid/pkiops/crl/LabCodSigPCA.crl")], None, None, None)
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.ExtendedKeyUsage(usages), False),
            (x509.SubjectAlternativeName([x509.DirectoryName(place)]), False),
            (x509.CRLDistributionPoints([crl]), False),
            (x509.BasicConstraints(ca=False, path_length=None), True),
        ]
        return self._identity("signer" if variant == "good" else f"signer-{variant}", name, issuer, begin, end, extensions)

    def timestamper(self, at: datetime.datetime) -> Identity:
        """Return a timestamp authority's leaf that is valid at ``at``; old ones are expired by now, as the real one is."""
        year = at.year
        begin = datetime.datetime(year - 1, 12, 1, tzinfo=datetime.timezone.utc)
        end = datetime.datetime(year + 1, 3, 1, tzinfo=datetime.timezone.utc)
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), False),
        ]
        return self._identity(f"timestamp-service-{year}", _name("Lab Time-Stamp Service"), self.timestamp_intermediate, begin, end, extensions)

    def foreign_timestamper(self) -> Identity:
        """Return a timestamp authority under the feed's signing root, which must not be believed."""
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), False),
        ]
        begin, end = (datetime.datetime(year, 1, 1, tzinfo=datetime.timezone.utc) for year in (2015, 2044))
        return self._identity("timestamp-foreign", _name("Lab Time-Stamp Service"), self.feed_intermediate, begin, end, extensions)

    def server(self, name: str, dns: Iterable[str] = (), addresses: Iterable[str] = ("127.0.0.1",)) -> ServerFiles:
        """Return the files of a TLS server's certificate; all of them share one key, for 200 servers to start quickly."""
        names: list[x509.GeneralName] = [x509.DNSName(entry) for entry in dict.fromkeys([*dns, "localhost"])]
        names += [x509.IPAddress(ipaddress.ip_address(entry)) for entry in addresses]
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.SubjectAlternativeName(names), False),
            (_usage(ca=False), True),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        ]
        role = f"tls-{name.lower()}"
        begin, end = self.now - datetime.timedelta(days=1), self.now + datetime.timedelta(days=365)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._identity(role, subject, self.tls_ca, begin, end, extensions, key_role="tls-server")
        return ServerFiles(self.path(role), self.folder / "tls-server.key")

    # -- files

    def path(self, role: str) -> pathlib.Path:
        """Return where the certificate of a role is."""
        return self.folder / f"{role}.pem"

    @property
    def tls_ca_path(self) -> pathlib.Path:
        """The PEM file that clients of the lab's web servers trust."""
        return self._made("tls-ca", self.tls_ca)

    @property
    def feed_root_path(self) -> pathlib.Path:
        """The PEM file of the feed's signing root."""
        return self._made("feed-root", self.feed_root)

    @property
    def timestamp_root_path(self) -> pathlib.Path:
        """The PEM file of the timestamp root."""
        return self._made("timestamp-root", self.timestamp_root)

    def _made(self, role: str, identity: Identity) -> pathlib.Path:
        path = self.path(role)
        if not path.exists():
            self._store(path, identity.pem, 0o644)
        return path

    # -- making

    def _authority(self, role: str, name: x509.Name, issuer: Identity | None, critical_policies: bool = False) -> Identity:
        extensions: list[tuple[x509.ExtensionType, bool]] = [(_usage(ca=True), False), (x509.BasicConstraints(ca=True, path_length=None), True)]
        if critical_policies:
            policy = x509.PolicyInformation(x509.ObjectIdentifier("1.3.6.1.4.1.311.46.3"), None)
            extensions.append((x509.CertificatePolicies([policy]), True))
        begin, end = (datetime.datetime(year, 1, 1, tzinfo=datetime.timezone.utc) for year in (2010, 2046))
        return self._identity(role, name, issuer, begin, end, extensions)

    def _identity(
        self,
        role: str,
        name: x509.Name,
        issuer: Identity | None,
        begin: datetime.datetime,
        end: datetime.datetime,
        extensions: list[tuple[x509.ExtensionType, bool]],
        key_role: str | None = None,
    ) -> Identity:
        with self._lock:
            if role not in self._identities:
                key_file = self.folder / f"{key_role or role}.key"
                if key_file not in self._keys:
                    self._keys[key_file] = self._read_key(key_file) if key_file.exists() else _key(key_role or role)
                key = self._keys[key_file]
                if self.path(role).exists() and key_file.exists():
                    certificate = x509.load_pem_x509_certificate(self.path(role).read_bytes())
                else:
                    certificate = _issue(name, key, issuer, begin, end, extensions)
                identity = Identity(certificate, key, issuer)
                self._store(self.path(role), identity.pem, 0o644)
                if not key_file.exists():
                    self._store(key_file, identity.key_pem, 0o600)
                self._identities[role] = identity
            return self._identities[role]

    @staticmethod
    def _read_key(path: pathlib.Path) -> rsa.RSAPrivateKey:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise LabRefusal(f"{path} is not an RSA key")
        return key

    @staticmethod
    def _store(path: pathlib.Path, data: bytes, mode: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)


def _issue(
    name: x509.Name,
    key: rsa.RSAPrivateKey,
    issuer: Identity | None,
    begin: datetime.datetime,
    end: datetime.datetime,
    extensions: list[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer.key if issuer else key, hashes.SHA256())
