# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that makes, signs and checks a document of the trust domain local (the guide on day zero shows it at work).

``python3 -m ansible_collections.exchange.mitigation.plugins.plugin_utils.local_document --help``, with the folder that holds
``ansible_collections`` in PYTHONPATH. The key is read from a file, its passphrase from a file or the terminal, and neither is
ever in an Ansible variable or on a command line. Nothing is written that the feed module would not accept.
"""

from __future__ import annotations

import argparse
import datetime
import getpass
import hashlib
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _certificates, _dsig, _fetch, _local, _parse, _roots, _verify, _xml_guard
from ansible_collections.exchange.mitigation.plugins.module_utils._certificates import iso
from ansible_collections.exchange.mitigation.plugins.module_utils._deps import optional
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import DEFAULT_SITE
from ansible_collections.exchange.mitigation.plugins.module_utils._local_files import replace
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import InboundRule
from ansible_collections.exchange.mitigation.plugins.plugin_utils import _local_writer

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
except ImportError:
    pass  # main() requires it
yaml = optional("yaml")

#: A signer that ends sooner than this is worth a line.
SOON = datetime.timedelta(days=30)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="local_document", description="Makes, signs and checks a document of the organisation's own mitigations.")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="show the unsigned document that a description means")
    make.add_argument("description", help="YAML or JSON file")
    sign = commands.add_parser("sign", help="sign what a description means, check it, and write it")
    sign.add_argument("description", help="YAML or JSON file")
    sign.add_argument("output", help="file to write; one that is there is replaced by a higher version only")
    sign.add_argument("--key", required=True, help="the signer's RSA key, a PEM file")
    sign.add_argument("--certificates", required=True, help="PEM file with the signer's certificate first, then the intermediate ones")
    sign.add_argument("--passphrase-file", help="file whose first line opens the key; without it an encrypted key asks at the terminal")
    check = commands.add_parser("check", help="check a signed document and say what it does")
    check.add_argument("document", help="the signed file")
    check.add_argument("--common-name", help="the signer's common name; without it, the one in the document is shown")
    check.add_argument("--organization", help="the signer's organization, likewise")
    for command in (sign, check):
        command.add_argument("--root", required=True, help="the organisation's root, a PEM file")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when it is done, 1 with a reason code and a sentence when it is not."""
    options = _arguments().parse_args(arguments)
    try:
        _verify.require_libraries()
        sys.stdout.write({"make": _make, "sign": _sign, "check": _check}[options.command](options))
    except MitigationError as exc:
        sys.stderr.write(f"{exc.reason}: {exc.message}\n")
        return 1
    return 0


def _file(path: str, what: str) -> bytes:
    try:
        return pathlib.Path(path).expanduser().read_bytes()
    except OSError as exc:
        raise InvalidInput(f"{what} {path} cannot be read: {exc.strerror}.") from exc


def _described(path: str) -> bytes:
    """Return the unsigned document of a description, once the parser takes it."""
    if yaml is None:
        raise InvalidInput("The Python library PyYAML is missing; it comes with ansible-core.", "missing_library")
    try:
        value = yaml.safe_load(_file(path, "The description"))
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"The description {path} is not YAML: {exc}.", "description_malformed") from exc
    document = _local_writer.render(value)
    _local.parse(_xml_guard.parse(_xml_guard.checked(document)), _parse.LOCAL)
    return document


def _make(options: argparse.Namespace) -> str:
    return _described(options.description).decode() + "\n"


def _key(options: argparse.Namespace) -> rsa.RSAPrivateKey:
    data = _file(options.key, "The key")
    passphrase: bytes | None = None
    if b"ENCRYPTED" in data:
        if options.passphrase_file is not None:
            passphrase = _file(options.passphrase_file, "The passphrase file").split(b"\n", 1)[0].rstrip(b"\r")
        else:
            passphrase = getpass.getpass(f"Passphrase of {options.key}: ").encode()
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except (ValueError, TypeError) as exc:
        raise InvalidInput(f"The key {options.key} cannot be read: it is no private key in PEM form, or the passphrase is wrong.", "key_unreadable") from exc
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InvalidInput(f"The key {options.key} is not RSA.", "key_not_allowed")
    return key


def _sign(options: argparse.Namespace) -> str:
    document = _described(options.description)
    chain = _roots.read_certificates(_file(options.certificates, "The file of certificates"), options.certificates)
    key = _key(options)
    if chain[0].public_key() != key.public_key():
        raise InvalidInput(f"The first certificate in {options.certificates} is not the one of the key {options.key}.", "key_not_allowed")
    signed = _local_writer.sign(document, key, chain)
    said = _judged(signed, options.root, *_names(chain[0]), name=options.output)
    output = pathlib.Path(options.output).expanduser()
    _refuse_same_version(document, output)
    _write(output, signed)
    return said


def _refuse_same_version(document: bytes, output: pathlib.Path) -> None:
    """Refuse to replace a document by one that controllers would take for the same or an older one; raises InvalidInput."""
    if not output.exists():
        return
    try:
        old = str(_xml_guard.parse(_xml_guard.checked(output.read_bytes())).get("version", ""))
        higher = _parse.version_key(str(_xml_guard.parse(document).get("version"))) > _parse.version_key(old)
    except (OSError, MitigationError) as exc:
        raise InvalidInput(f"{output} is there and is no mitigation document; it is not replaced.", "output_exists") from exc
    if not higher:
        raise InvalidInput(
            f"{output} has version {old}; give the description a higher one, or the controllers that have accepted it refuse this one.", "version_not_raised"
        )


def _write(output: pathlib.Path, data: bytes) -> None:
    try:
        replace(output, data, 0o644)
    except OSError as exc:
        raise InvalidInput(f"{output} cannot be written: {exc.strerror}.", "output_unwritable") from exc


def _names(certificate: x509.Certificate) -> tuple[str, str]:
    """Return common name and organization of a signer; raises InvalidInput where it has not exactly one of each."""
    found = []
    for oid, what in ((x509.NameOID.COMMON_NAME, "common name"), (x509.NameOID.ORGANIZATION_NAME, "organization")):
        values = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]
        if len(values) != 1 or not isinstance(values[0], str):
            raise InvalidInput(f"The signer's certificate has {len(values)} of {what}, and must have one.", "signer_missing")
        found.append(values[0])
    return found[0], found[1]


def _check(options: argparse.Namespace) -> str:
    data = _fetch.read_file(options.document)
    common_name, organization = options.common_name, options.organization
    if common_name is None or organization is None:
        read = _dsig.read_signature(_dsig.find_signature(_xml_guard.parse(_xml_guard.checked(data))))
        signers = [c for c in map(_certificates.load, read.certificates) if _matches(c, read)]
        names = _names(signers[0]) if signers else ("", "")
        common_name, organization = common_name or names[0], organization or names[1]
    return _judged(data, options.root, common_name, organization, name=options.document)


def _matches(certificate: x509.Certificate, read: _dsig.Signature) -> bool:
    key = certificate.public_key() if _certificates.key_allowed(certificate) else None
    return isinstance(key, rsa.RSAPublicKey) and _dsig.key_matches(key, read)


def _judged(data: bytes, root: str, common_name: str, organization: str, name: str) -> str:
    """Verify as the feed module does and return what there is to say; raises VerifyError."""
    roots = tuple(_roots.read_certificates(_file(root, "The root"), root))
    policy = _verify.Policy(roots, (), common_name, organization, (_certificates.CODE_SIGNING,))
    now = datetime.datetime.now(datetime.timezone.utc)
    verified = _verify.verify(data, policy, now)
    document = _local.parse(verified.root, _parse.LOCAL)
    mitigations = document.mitigations if isinstance(document, _local.LocalDocument) else ()
    until = min(datetime.datetime.fromisoformat(entry["not_after"].replace("Z", "+00:00")) for entry in verified.signer["chain"])
    lines = [f"{name}: version {document.version}, mitigations: {len(mitigations)}, {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}"]
    for mitigation in mitigations:
        lines += _told(mitigation)
    lines.append(f"signed by {verified.signer['subject']}, SHA-256 {verified.signer['sha256']}")
    lines.append(f"under the root {verified.signer['chain'][-1]['subject']}, SHA-256 {verified.signer['chain'][-1]['sha256']}")
    lines.append(f"valid until {iso(until)}" + ("; sign it again before then" if until - now > SOON else ", which is soon: renew the signer and sign it again"))
    lines += ["trust:", "  domain: local", f"  roots: [{root}]", f"  signer_common_name: {common_name}", f"  signer_organization: {organization}"]
    return "\n".join(lines) + "\n"


def _told(mitigation: _local.LocalMitigation) -> list[str]:
    """Return what a mitigation does, a line an action."""
    lines = [f"  {mitigation.id}: {mitigation.description}" + (f" ({mitigation.cve})" if mitigation.cve else "")]
    for action in mitigation.rules:
        rule: Any = action.rules[0]
        place = action.path if action.site == DEFAULT_SITE else f"{action.site}{action.path}"
        if isinstance(rule, InboundRule):
            conditions = ((rule.input, rule.pattern), *rule.also)
            what = f"{place}: {'drop the request' if rule.status is None else f'answer {rule.status}'}"
        else:
            conditions = rule.inputs
            what = f"{place}: set {rule.server_variable.removeprefix('RESPONSE_').replace('_', '-')} to {rule.value}"
        lines.append(f"    {what} where " + " and ".join(f"{source} fits {pattern}" for source, pattern in conditions))
    for service in mitigation.services:
        words = " and ".join(word for word, wanted in (("stop", service.stop), ("disable", service.disable)) if wanted)
        lines.append(f"    service {', '.join(service.names)}: {words}")
    lines += [f"    application pool {pool.name}: stop" for pool in mitigation.pools]
    return lines


if __name__ == "__main__":
    sys.exit(main())
