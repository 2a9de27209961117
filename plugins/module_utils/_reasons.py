# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which a feed can be refused: code, cause and cure in one table.

Codes are stable: playbooks test them. The documentation is generated from this table and tested against it.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import FetchError, VerifyError


class Reason(NamedTuple):
    """Why a document is refused, and what an administrator can do."""

    cause: str
    cure: str


_DAMAGED = "Fetch the document again, byte for byte; if the same bytes come again, treat it as an attack or ask Microsoft."
_ATTACK = "Do not use the document. Find out who put it there: Microsoft's documents do not look like this."
_PROFILE = "Write it as the profile in the guide on trust allows, sign it again, and raise its version."
_KEEP = "Take the byte-exact file (19,221 bytes stay 19,221 bytes); editors, pretty printers and clipboard change it."

#: What `_verify` and the stages below it refuse.
VERIFY_REASONS: Mapping[str, Reason] = {
    "empty": Reason("There are no bytes.", _DAMAGED),
    "too_large": Reason("The document is larger than 1 MiB.", _DAMAGED),
    "nul_byte": Reason("The document contains a NUL byte.", _KEEP),
    "not_utf8": Reason("The bytes are not UTF-8, or begin with more than one byte order mark.", _KEEP),
    "encoding_not_allowed": Reason("The XML declaration names an encoding other than UTF-8.", _KEEP),
    "xml_version": Reason("The XML declaration names a version other than 1.0.", _ATTACK),
    "doctype": Reason("The document has a DOCTYPE.", _ATTACK),
    "processing_instruction": Reason("The document has a processing instruction.", _ATTACK),
    "too_deep": Reason("Elements are nested deeper than 32.", _ATTACK),
    "too_many_elements": Reason("There are more than 20,000 elements.", _ATTACK),
    "too_many_attributes": Reason("An element has more than 32 attributes.", _ATTACK),
    "too_many_namespaces": Reason("There are more than 64 namespace declarations.", _ATTACK),
    "not_well_formed": Reason("The bytes are not well-formed XML.", _DAMAGED),
    "root_element": Reason("The root element is not EOCS without namespace.", "Check that the source is the mitigation feed and not another page."),
    "foreign_namespace": Reason("An element or attribute of the content is in a namespace.", _ATTACK),
    "comment_in_text": Reason("A comment stands where it splits or hides text.", _ATTACK),
    "unsigned": Reason("There is no Signature element.", "Take the original file; a document without signature is never used."),
    "many_signatures": Reason("There is more than one element named Signature, in any case or namespace.", _ATTACK),
    "signature_position": Reason("The Signature is not the last child of the root, or something but white space follows it.", _ATTACK),
    "signature_grammar": Reason("The Signature has an element, attribute or text that the fixed grammar lacks.", _ATTACK),
    "algorithm_not_allowed": Reason("A signature, digest or canonicalization algorithm is not in the allow list.", _ATTACK),
    "transform_not_allowed": Reason("The transforms are not enveloped-signature, with or without Canonical XML 1.0 after it.", _ATTACK),
    "reference_not_allowed": Reason("The Reference is not to the whole document (URI empty, nothing else).", _ATTACK),
    "base64_malformed": Reason("A digest, signature or certificate is not strict base64.", _DAMAGED),
    "certificate_malformed": Reason("An embedded certificate cannot be read.", _DAMAGED),
    "signer_missing": Reason("No embedded certificate has the expected common name and organization, and what signed is not under a pinned root.", _ATTACK),
    "signer_changed": Reason(
        "The document is validly signed under a pinned root, by a certificate with another name than expected.",
        "Compare the printed chain with what Microsoft announces; approve with trust.signer_common_name and trust.signer_organization.",
    ),
    "signer_ambiguous": Reason("More than one embedded certificate has the signer's name.", _ATTACK),
    "key_not_allowed": Reason("The signer's key is not RSA of 2048 to 8192 bits with a usual exponent.", _ATTACK),
    "signature_mismatch": Reason("The signature does not match: the signed part was changed, or another key made it.", _ATTACK),
    "digest_mismatch": Reason("The content is not what was signed.", _DAMAGED),
    "signer_is_ca": Reason("The signer's certificate is a certificate authority or a root.", _ATTACK),
    "key_usage": Reason("The signer's certificate may not sign data.", _ATTACK),
    "eku_missing": Reason(
        "The signer's certificate lacks a required extended key usage.",
        "If the chain is Microsoft's and they announce it, set trust.required_ekus.",
    ),
    "chain_untrusted": Reason(
        "No chain leads from the signer to a pinned root.",
        "Compare the printed chain; if Microsoft moved to another root, give it in trust.roots.",
    ),
    "certificate_expired": Reason(
        "A certificate is expired and no valid timestamp shows that the signature is older.",
        "Fetch a current document; for an archive use verify_at. The message says why a timestamp did not count.",
    ),
    "certificate_not_yet_valid": Reason("A certificate is not valid yet.", "Check the controller's clock."),
    "denied": Reason("The document or a certificate of the chain is in trust.denied_sha256.", "Do not use the document."),
    "revoked": Reason("A certificate of the chain is revoked by a given CRL.", "Do not use the document; wait for a new one."),
    "revocation_unknown": Reason("trust.revocation is required, and no current and complete CRL covers the chain.", "Give current CRL files in trust.crls."),
    "unexpected": Reason("The document broke a check in a way nobody foresaw.", "Do not use the document; please report it."),
    "envelope_malformed": Reason("The signed document is not an EOCS envelope of Config elements.", "Update the collection; the format may have changed."),
    "version_malformed": Reason("The version is missing, not dotted numbers, or absurd.", "Update the collection; the format may have changed."),
    "config_id_malformed": Reason("A Config has no id, or one with characters that no id has.", "Update the collection; the format may have changed."),
    "config_id_duplicate": Reason("Two Configs have the same id.", _ATTACK),
    "wrong_domain": Reason("An id belongs to another trust domain than the document's.", "Check trust.domain and the source."),
    "local_structure": Reason("A local document has an element, attribute or text that the profile lacks.", _PROFILE),
    "local_action": Reason("An action of a local document has a type or scope that the profile lacks.", _PROFILE),
    "local_applies": Reason("A local document names a product or build that there is not.", _PROFILE),
    "local_path": Reason("A rule is for a path that is none of Exchange's front end.", _PROFILE),
    "local_input": Reason("A condition looks at something that the profile lacks.", _PROFILE),
    "local_pattern": Reason("A pattern is not a regular expression that both readers understand, or fits everything.", _PROFILE),
    "local_answer": Reason("A rule answers with something that the profile lacks.", _PROFILE),
    "local_header": Reason("A rule changes a response header that the profile lacks.", _PROFILE),
    "local_value": Reason("An attribute has a value that the profile lacks.", _PROFILE),
    "local_service": Reason("A service is not one that a local document may stop.", _PROFILE),
    "local_pool": Reason("An application pool is not one that a local document may stop.", _PROFILE),
    "rollback_version": Reason("The version is lower than one accepted before.", "Give allow_older with a reason, if this is wanted."),
    "rollback_time": Reason("Other content, but not signed later than what was accepted before.", "Give allow_older with a reason, if this is wanted."),
    "rollback_untimed": Reason("No proven signing time, but the document accepted before had one.", "Give allow_older with a reason, if this is wanted."),
    "same_version_other_content": Reason(
        "Same version, other content, and no signing time to tell which is newer.",
        "Compare both and approve one with approved_sha256.",
    ),
    "version_leap": Reason(
        "The version is absurdly far ahead of the one accepted before, or of what Microsoft is known to use.",
        "Approve it with approved_sha256 if it is genuine.",
    ),
    "first_use_refused": Reason("Nothing was accepted before, and first_use is refuse.", "Approve the hash in approved_sha256."),
    "state_damaged": Reason("The state file cannot be read.", "Restore it; or move it away, which means a first use."),
    "state_unsafe": Reason("The state directory belongs to another user or is open to others.", "Make it 0700 and owned by the user who runs Ansible."),
    "feed_bytes_differ": Reason("The file does not hold the bytes whose hash the feed task returned.", "Run the feed task again in this play."),
    "feed_not_verified": Reason("There is no record that these bytes were verified.", "Run the feed task; pass its result unchanged."),
}

#: What `_fetch` refuses, by the hop that failed.
FETCH_REASONS: Mapping[str, Reason] = {
    "url_not_allowed": Reason("The URL is not https, or carries a user name.", "Use https."),
    "dns": Reason("The host name does not resolve.", "Check the controller's resolver, or set proxy."),
    "proxy": Reason("The proxy cannot be reached or refuses the connection.", "Check proxy."),
    "proxy_authentication": Reason("The proxy wants other credentials.", "Check the user and password in proxy."),
    "tcp": Reason("The host does not accept the connection.", "Check the firewall, or set proxy."),
    "tls": Reason("The TLS handshake failed; the protocol must be 1.2 or newer.", "Check for a TLS inspecting device."),
    "tls_certificate": Reason("The server's certificate is not trusted for this host.", "If a device inspects TLS, exempt the host or give its CA in ca_path."),
    "redirect": Reason("The server answers with a redirect, which is never followed.", "Give the final URL, if you trust it."),
    "http_status": Reason("The server answers with a status other than 200.", "Try again later; check the URL."),
    "content_type": Reason("The answer is not XML.", "Check for a captive portal or proxy page."),
    "content_too_large": Reason("The answer is larger than 1 MiB, also counted after decompression.", "Check the URL."),
    "content_broken": Reason("The answer was cut short or cannot be decompressed.", "Try again."),
    "deadline": Reason("The answer did not arrive within timeout.", "Check the network; raise timeout."),
    "file": Reason("The file cannot be read.", "Check path and permissions on the controller."),
}

#: What the feed module refuses about its own options and surroundings.
OPTION_REASONS: Mapping[str, Reason] = {
    "invalid_arguments": Reason("An option is unknown or has a value of the wrong type.", "Read the message."),
    "invalid_input": Reason("An option has a value that cannot be meant.", "Read the message; it names the option."),
    "missing_library": Reason("A Python library is missing or too old on the controller.", "Install what the message names."),
    "root_unreadable": Reason("A file of roots holds no certificate.", "Give certificates in PEM or DER form."),
    "root_not_pinnable": Reason("A root is not a certificate authority that signed itself.", "Give the root, not an intermediate or the signer."),
    "local_trust_incomplete": Reason("trust.domain is local, and it is not said who signs.", "Give trust.roots and both names of the signer."),
    "local_trust_foreign": Reason("trust.domain is local, and a root is Microsoft's.", "Give the organisation's own root."),
    "root_damaged": Reason("The shipped root does not have the hash in code.", "Reinstall the collection."),
    "crl_unreadable": Reason("A file holds no revocation list.", "Give lists in PEM or DER form."),
    "state_unwritable": Reason("state_dir cannot be used or written.", "Check the path, its owner and the free space."),
    "state_locked": Reason("Another run holds the lock of state_dir.", "Run again when it is done."),
}

REASONS: Mapping[str, Reason] = {**VERIFY_REASONS, **FETCH_REASONS, **OPTION_REASONS}


def unproven(code: str, message: str, **details: Any) -> VerifyError:
    """Return the VerifyError of a code of the table; the sentence ends with the cure."""
    return VerifyError(f"{message} {VERIFY_REASONS[code].cure}", code, **details)


def unfetched(code: str, message: str, **details: Any) -> FetchError:
    """Return the FetchError of a code of the table; the sentence ends with the cure."""
    return FetchError(f"{message} {FETCH_REASONS[code].cure}", code, **details)


def shown(text: object, limit: int = 200) -> str:
    """Return foreign text fit for a message: printable ASCII, no braces that a template could read, of bounded length."""
    string = str(text)
    cut = string[:limit]
    safe = "".join(c if " " <= c <= "~" and c not in "{}\\" else f"\\u{ord(c):04x}" for c in cut)
    return safe + ("..." if len(string) > limit else "")
