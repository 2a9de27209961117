# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch the feed of mitigations and prove who signed it, once per run, on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: feed
short_description: Fetch Microsoft's feed of Exchange mitigations and prove its origin
version_added: 0.1.0
description:
  - Fetches the signed document that tells which mitigations Microsoft publishes, by URL, through a proxy or from a file.
  - Proves it on the controller. Its XML signature must be by the expected signer, under a pinned root certificate, valid now
    or at the time that a timestamp under a second pinned root proves.
  - Refuses a document that is older than one accepted before.
  - Contacts no managed host. Run it once, delegated to localhost, and hand RV(feed) to the tasks that follow.
seealso:
  - module: exchange.mitigation.mitigation
  - name: The guide on trust
    link: https://github.com/exchange-mitigation/exchange.mitigation/blob/main/docs/docsite/rst/guide_trust.rst
    description: What is proven, against what, and what cannot be proven.
  - name: The guide on troubleshooting
    link: https://github.com/exchange-mitigation/exchange.mitigation/blob/main/docs/docsite/rst/guide_troubleshooting.rst
    description: Every reason code with its cause and cure.
author:
  - exchange.mitigation contributors (@exchange-mitigation)
requirements:
  - lxml >= 5.0.0 (on the controller)
  - cryptography >= 49.0.0 (on the controller)
  - requests (on the controller, for URLs)
options:
  source:
    description:
      - An https URL, or the path of a file on the controller.
      - A file must be the byte-exact document. It is read once, and the bytes that were verified are the ones that are used.
    type: str
    default: https://officeclient.microsoft.com/GetExchangeMitigations
  proxy:
    description:
      - URL of the proxy, with user name and password where it wants them.
      - Without it, the proxies of the environment are used. An empty string uses none.
    type: str
  ca_path:
    description:
      - PEM file with the certificate authorities that may have issued the server's certificate, in place of all others.
      - This is about the connection only. It has no part in trusting the document.
    type: path
  timeout:
    description:
      - Seconds within which the whole answer must have arrived, all tries together.
    type: int
    default: 30
  trust:
    description:
      - Who may have signed the document. The defaults are Microsoft's.
    type: dict
    suboptions:
      domain:
        description:
          - The trust domain. In V(microsoft) the contents are opaque, and actions come from the collection's catalogue by id.
          - In V(local) the document is the organisation's own, its ids begin with C(LOCAL-), and its actions stand in it, in the profile that
            R(the guide on trust, ansible_collections.exchange.mitigation.docsite.guide_trust) describes. There are no defaults of whom to trust then,
            so O(source), O(trust.roots), O(trust.signer_common_name) and O(trust.signer_organization) must be set.
          - A document of one domain is never accepted in the other.
        type: str
        choices: [microsoft, local]
        default: microsoft
      roots:
        description:
          - Files, or texts, with the root certificates in PEM form under which the signer may be, in place of Microsoft Root Certificate Authority 2011.
          - For a mirror that signs again, a laboratory, or the organisation's own root in the domain V(local). There is a state of its own for them.
        type: list
        elements: str
      timestamp_roots:
        description:
          - Files, or texts, with the root certificates under which the timestamp may be, in place of Microsoft Root Certificate Authority 2010.
          - In the domain V(local) no timestamp counts without it.
        type: list
        elements: str
      signer_common_name:
        description:
          - The common name that the signer's certificate must have, and have once.
          - The default in the domain V(microsoft) is C(Microsoft Exchange XML Signing). In V(local) there is none.
        type: str
      signer_organization:
        description:
          - The organization that the signer's certificate must have, and have once.
          - The default in the domain V(microsoft) is C(Microsoft Corporation). In V(local) there is none.
        type: str
      required_ekus:
        description:
          - Extended key usages that the signer's certificate must all have, as dotted object identifiers.
          - The default in the domain V(microsoft) is C(1.3.6.1.5.5.7.3.3), which is code signing, and C(1.3.6.1.4.1.311.76.57.1.11), Microsoft's own for
            this feed. In V(local) it is code signing alone.
        type: list
        elements: str
      crls:
        description:
          - Files with certificate revocation lists, PEM or DER. Nothing is ever fetched from an address in a document or certificate.
          - A list without a valid signature of the chain's issuer has no effect.
        type: list
        elements: path
      denied_sha256:
        description:
          - SHA-256 of certificates that must not be in a chain, or of documents that must not be used.
        type: list
        elements: str
      revocation:
        description:
          - With V(required), current and complete lists must cover the signer's chain below the root.
          - With V(soft), RV(revocation) is V(unknown) without them. A listed certificate is refused in both.
        type: str
        choices: [soft, required]
        default: soft
  max_age:
    description:
      - Hours since the last successful fetch that O(state_dir) remembers, the only freshness that there is. The document has no date of expiry.
      - When a URL cannot be fetched, the document accepted last is verified again and used with a warning, up to this age. Without it, a failed fetch fails.
      - For a file, a warning tells that the last fetch is older.
    type: int
  first_use:
    description:
      - What to do when O(state_dir) remembers nothing that a document could be older than.
      - With V(accept), it is accepted with a warning. With V(refuse), O(approved_sha256) must have its hash.
    type: str
    choices: [accept, refuse]
    default: accept
  approved_sha256:
    description:
      - SHA-256 of documents that an administrator has approved, of the file (as sha256sum prints it) or of the signed octets.
      - Asked on first use, for other content in the same version without a signing time, and for a version far ahead.
        It lets no older document through, and no bad signature.
    type: list
    elements: str
  allow_older:
    description:
      - The reason why a document may be older than one accepted before. It is kept in the state's audit.
      - The mark stays at the newer document, so this has to be said each time.
    type: str
  verify_at:
    description:
      - For archived files, the time at which to judge the certificates, such as V(2021-12-07T15:37:24Z). Not allowed with a URL.
    type: str
  state_dir:
    description:
      - Directory on the controller for what is remembered and for the verified documents. It gets mode 0700.
      - The default is C(exchange_mitigation) below E(XDG_STATE_HOME), or below C(~/.local/state).
      - Without lasting state there is no protection from an older document. A container's home is not lasting.
    type: path
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - Fetches and verifies, and keeps a copy of the verified bytes for the tasks that follow. What is remembered does not change.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
    details:
      - Nothing of a managed host changes. RV(new) and RV(withdrawn) tell what is different in the feed.
notes:
  - The module runs on the controller, through an action plugin of the same name. It never changes a managed host.
  - When it fails, C(reason) is a stable code, and C(msg) tells what was expected and what to do.
"""

EXAMPLES = r"""
- name: Fetch and prove the feed
  exchange.mitigation.feed:
  delegate_to: localhost
  run_once: true
  register: published

- name: Through a proxy
  exchange.mitigation.feed:
    proxy: "http://{{ proxy_user }}:{{ proxy_password }}@proxy.example.com:3128"
    max_age: 48
  delegate_to: localhost
  run_once: true

- name: A file that was carried here
  exchange.mitigation.feed:
    source: files/mitigations.xml
    first_use: refuse
    approved_sha256: 0d4f3a52b9a1c7be7c9d8e0a6f5b4c3d2e1f00112233445566778899aabbccdd
  delegate_to: localhost
  run_once: true

- name: Approve another signer, after comparing it with Microsoft's announcement
  exchange.mitigation.feed:
    trust:
      signer_common_name: Microsoft Exchange Mitigation Signing
  delegate_to: localhost
  run_once: true

- name: Prove the organisation's own document
  exchange.mitigation.feed:
    source: files/local-mitigations.xml
    trust:
      domain: local
      roots: [files/example-root.pem]
      signer_common_name: Example Exchange Mitigation Signing
      signer_organization: Example Ltd
  delegate_to: localhost
  run_once: true
  register: own

- name: Judge an archived file at the time it was fetched
  exchange.mitigation.feed:
    source: archive/2021-12-07.xml
    verify_at: "2021-12-07T15:37:24Z"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
feed:
  description: What later tasks take. They read the file again and refuse any bytes but these.
  returned: success
  type: dict
  contains:
    path:
      description: File below O(state_dir) with the verified bytes as they came.
      type: str
    sha256:
      description: SHA-256 of these bytes.
      type: str
    domain:
      description: The trust domain.
      type: str
version:
  description: The document's version.
  returned: success
  type: str
  sample: 1.0.4
signed_at:
  description: The latest time at which it was signed, as the timestamp proves it. Empty without a valid timestamp.
  returned: success
  type: str
  sample: "2021-09-15T16:42:08.621Z"
time_basis:
  description: The time at which the signer's certificate was judged, V(now), V(timestamp) or V(explicit).
  returned: success
  type: str
  sample: now
signer:
  description: The signer's certificate.
  returned: success
  type: dict
  contains:
    subject:
      description: Distinguished name.
      type: str
    issuer:
      description: Distinguished name of the issuer.
      type: str
    serial:
      description: Serial number in hexadecimal digits.
      type: str
    common_name:
      description: Common name.
      type: str
    organization:
      description: Organization.
      type: str
    ekus:
      description: Extended key usages.
      type: list
      elements: str
    not_before:
      description: Begin of validity.
      type: str
    not_after:
      description: End of validity.
      type: str
    sha256:
      description: SHA-256 fingerprint.
      type: str
    judged_at:
      description: The time at which the chain was judged.
      type: str
    chain:
      description: The proven chain from the signer to the pinned root, with names, usages, validity and fingerprint of each.
      type: list
      elements: dict
revocation:
  description: What the given lists say of the signer's chain, V(good) or V(unknown). A revoked one fails.
  returned: success
  type: str
  sample: unknown
mitigations:
  description: The published mitigations in the order of the document.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The id, such as V(M1).
      type: str
    description:
      description: The description in the document.
      type: str
    actions:
      description: The actions as far as the envelope tells. Empty where their shape is unknown.
      type: list
      elements: dict
      contains:
        type:
          description: Type, such as V(DoNothing).
          type: str
        scope:
          description: Scope, such as V(Server).
          type: str
        description:
          description: The description in the document.
          type: str
    supported:
      description: Whether this version can carry it out. It does nothing, the collection's catalogue has it, or it is a local one of known actions.
      type: bool
    kind:
      description: Kind of the catalogue's actions, V(none) for one that does nothing, empty for one that is not supported.
      type: str
new:
  description: Ids that the document accepted last did not have.
  returned: success
  type: list
  elements: str
withdrawn:
  description: Ids that only the document accepted last had.
  returned: success
  type: list
  elements: str
custom_roots:
  description: Whether roots other than Microsoft's were trusted.
  returned: success
  type: bool
fetched_at:
  description: Time of the last successful fetch, this one included. Empty where there was none.
  returned: success
  type: str
reason:
  description: Stable code of what went wrong.
  returned: failure
  type: str
  sample: digest_mismatch
sha256:
  description: SHA-256 of the document that was refused.
  returned: failure, where the document is the problem
  type: str
signer_chain:
  description: The certificates that the document brings, unproven, for comparison with an announcement.
  returned: failure, where the signer is the problem
  type: list
  elements: dict
"""

import datetime
import hashlib
import os
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils import _feed_handle, _fetch, _local, _parse, _state, _trust_options, _verify
from ansible_collections.exchange.mitigation.plugins.module_utils._certificates import iso
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import FetchError, InvalidInput, VerifyError
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task

SPEC = dict(
    argument_spec=dict(
        source=dict(type="str", default=_fetch.DEFAULT_SOURCE),
        proxy=dict(type="str", no_log=True),
        ca_path=dict(type="path"),
        timeout=dict(type="int", default=30),
        trust=dict(
            type="dict",
            apply_defaults=True,
            options=dict(
                domain=dict(type="str", choices=[_parse.MICROSOFT, _parse.LOCAL], default=_parse.MICROSOFT),
                roots=dict(type="list", elements="str"),
                timestamp_roots=dict(type="list", elements="str"),
                signer_common_name=dict(type="str"),
                signer_organization=dict(type="str"),
                required_ekus=dict(type="list", elements="str"),
                crls=dict(type="list", elements="path"),
                denied_sha256=dict(type="list", elements="str"),
                revocation=dict(type="str", choices=["soft", "required"], default="soft"),
            ),
        ),
        max_age=dict(type="int"),
        first_use=dict(type="str", choices=["accept", "refuse"], default="accept"),
        approved_sha256=dict(type="list", elements="str"),
        allow_older=dict(type="str"),
        verify_at=dict(type="str"),
        state_dir=dict(type="path"),
    ),
)


def run(task: Task) -> Decision:
    """Return the proven feed; the effect remembers it."""
    params = task.params
    _check(params)
    _verify.require_libraries()
    verify_at = _trust_options.moment(params["verify_at"], "verify_at")
    trust = params["trust"]
    domain = trust["domain"]
    policy, custom = _trust_options.policy(trust, verify_at)
    approved = _trust_options.hashes(params["approved_sha256"], "approved_sha256")
    baseline = _state.BASELINE if domain == _parse.MICROSOFT else None
    consent = _state.Consent(params["first_use"], approved, params["allow_older"], baseline)
    state = _state.State(params["state_dir"] or _trust_options.default_state_dir(os.environ), _trust_options.state_key(domain, policy, custom))
    for warning in state.prepare():
        task.warn(warning)
    memory = state.load()
    now = max(filter(None, (task.now(), memory.fetched_at)))

    data, fetched = _bytes(task, state, memory, now)
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        verified = _verify.verify(data, policy, now)
        document = _local.parse(verified.root, domain)
        accepted = _state.Accepted(verified.octets_sha256, sha256, document.version, verified.signed_at, verified.signer["sha256"], document.ids)
        judgement = _state.judge(accepted, memory, consent)
    except VerifyError as exc:
        exc.details.setdefault("sha256", sha256)
        raise
    _warn(task, verified, judgement, custom and domain == _parse.MICROSOFT, sha256, state)
    path = state.keep(data, sha256, _feed_handle.record(sha256, domain, verified, now, custom))

    known = () if memory.last is None else memory.last.ids
    fetched_at = now if fetched else memory.fetched_at

    def effect() -> dict[str, Any]:
        state.commit(accepted, consent, now, fetched)
        return {}

    return Decision(
        result={
            "feed": {"path": str(path), "sha256": sha256, "domain": domain},
            "version": document.version,
            "signed_at": None if verified.signed_at is None else iso(verified.signed_at),
            "time_basis": verified.time_basis,
            "signer": verified.signer,
            "revocation": verified.revocation,
            "mitigations": [_mitigation(config, document) for config in document.configs],
            "new": [identifier for identifier in document.ids if identifier not in known],
            "withdrawn": [identifier for identifier in known if identifier not in document.ids],
            "custom_roots": custom,
            "fetched_at": None if fetched_at is None else iso(fetched_at.replace(microsecond=0)),
        },
        effect=effect,
    )


def _check(params: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other or mean nothing; raises InvalidInput."""
    if params["verify_at"] is not None and _fetch.is_url(params["source"]):
        raise InvalidInput("verify_at is for archived files: a document from a URL is always judged at the present time.")
    if params["allow_older"] is not None and not params["allow_older"].strip():
        raise InvalidInput("allow_older needs the reason as its value; it is kept in the audit.")
    if params["timeout"] < 1:
        raise InvalidInput("timeout must be at least 1 second.")
    if params["max_age"] is not None and params["max_age"] < 1:
        raise InvalidInput("max_age must be at least 1 hour.")
    if not params["source"]:
        raise InvalidInput("source is empty: give an https URL or the path of a file.")
    if params["trust"]["domain"] == _parse.LOCAL and params["source"] == _fetch.DEFAULT_SOURCE:
        raise InvalidInput("source is Microsoft's address: give the URL or the path of your organisation's document for trust.domain local.")


def _bytes(task: Task, state: _state.State, memory: _state.Memory, now: datetime.datetime) -> tuple[bytes, bool]:
    """Return the document's bytes and whether they were fetched over TLS just now; raises FetchError."""
    params = task.params
    age = None if memory.fetched_at is None else now - memory.fetched_at
    limit = None if params["max_age"] is None else datetime.timedelta(hours=params["max_age"])
    if not _fetch.is_url(params["source"]):
        if limit is not None and (age is None or age > limit):
            task.warn(f"The last successful fetch is {_hours(age)}: whether this file is Microsoft's newest cannot be known.")
        return _fetch.read_file(params["source"]), False
    try:
        return _fetch.fetch(params["source"], params["proxy"], params["ca_path"], params["timeout"]), True
    except FetchError as exc:
        kept = None if memory.last is None else state.copy(memory.last.file_sha256)
        if limit is None:
            raise
        if age is None or age > limit or kept is None:
            message = f"{exc.message} The last successful fetch is {_hours(age)}, max_age is {params['max_age']} hours."
            raise FetchError(message, exc.reason, **exc.details) from exc
        task.warn(f"{exc.message} The document of the last successful fetch ({_hours(age)}) is used.")
        return kept, False


def _hours(age: datetime.timedelta | None) -> str:
    return "not known" if age is None else f"{age / datetime.timedelta(hours=1):.1f} hours ago"


def _warn(task: Task, verified: _verify.Verified, judgement: _state.Judgement, custom: bool, sha256: str, state: _state.State) -> None:
    """Say what an administrator should know of a document that is accepted."""
    if judgement.first:
        task.warn(
            f"{state.file} knows no document that was accepted before, so an old one cannot be told from the newest. "
            f"Accepted as the first; compare its SHA-256 {sha256} with what another place receives."
        )
    if judgement.override:
        task.warn(f"An older document is accepted ({judgement.override}).")
    if verified.time_basis == "timestamp":
        task.warn(
            "The signer's chain is not valid today; the timestamp proves that the document was signed while it was. "
            "Such a document verifies for ever, so only the state tells an old one from the newest."
        )
    if verified.time_basis == "explicit":
        task.warn("The certificates were judged at verify_at, not today.")
    if custom:
        task.warn("Roots other than Microsoft's are trusted: whoever holds their keys decides which mitigations count as published.")
    if task.params["state_dir"] is None and _trust_options.is_ephemeral(os.environ):
        task.warn(f"{state.directory} is in a container and will be gone: give state_dir on lasting storage, or an older document is not noticed.")


def _mitigation(config: _parse.Config, document: _parse.Document) -> dict[str, Any]:
    """Return a Config as the result shows it: a local one by its actions, Microsoft's held against the catalogue by id alone."""
    from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue

    kind: str | None
    if isinstance(document, _local.LocalDocument):
        kind = next((one.kind for one in document.mitigations if one.id == config.id), None)
    else:
        kind = "none" if config.does_nothing or _catalogue.is_heartbeat(config.id) else getattr(_catalogue.find_published(config.id), "kind", None)
    return {
        "id": config.id,
        "description": config.description,
        "actions": [{"type": action.type, "scope": action.scope, "description": action.description} for action in config.actions],
        "supported": kind is not None,
        "kind": kind,
    }


def main() -> None:
    """Refuse to run without the action plugin."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.feed runs on the controller through its action plugin of the same name.", reason="needs_action_plugin")


if __name__ == "__main__":
    main()
