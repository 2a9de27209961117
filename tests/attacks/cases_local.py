# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The trust domain local: validly signed, and inside or outside the profile. What is signed is still not obeyed blindly."""

from __future__ import annotations

from collections.abc import Iterator

from .authorities import Pki
from .case import Case
from .documents import CONTENT, PING, sign

INBOUND = (
    '<Action answer="abort" desc="Drop it" path="/" scope="Server" type="RewriteInbound">'
    '<When input="{UrlDecode:{REQUEST_URI}}" pattern="(?=.*autodiscover)(?=.*zeroday)"></When></Action>'
)
STATUS = (
    '<Action answer="403" desc="Forbid posts to it" path="/ecp" scope="Server" type="RewriteInbound">'
    '<When input="{REQUEST_METHOD}" pattern="^POST$"></When><When input="{REQUEST_URI}" pattern="^/ecp/zero"></When></Action>'
)
BACK_END = STATUS.replace('scope="Server"', 'scope="Server" site="Exchange Back End"')
OUTBOUND = (
    '<Action desc="No script in attributes" header="Content-Security-Policy" path="/owa" scope="Server" type="RewriteOutbound"'
    ' value="{R:0}; script-src-attr \'none\'"><When input="{RESPONSE_CONTENT_TYPE}" pattern="^text/html"></When></Action>'
)
SERVICE = '<Action desc="Stop it" disable="true" scope="Server" service="MSExchangeUM" stop="true" type="Service"></Action>'
POOL = '<Action desc="Stop it" pool="MSExchangeOABAppPool" scope="Server" type="AppPool"></Action>'
APPLIES = '<Applies fixed="15.2.1544.48 15.2.1748.53" product="Exchange2019"></Applies>'
EFFECT = '<SideEffect desc="Something is slower."></SideEffect>'


def config(actions: str = INBOUND, identifier: str = "LOCAL-2026.1", before: str = "", attributes: str = "") -> str:
    """Return a Config of a local document in canonical form; ``attributes`` come before desc."""
    return f'<Config{attributes} desc="Zero day" id="{identifier}">{before}<ActionList>{actions}</ActionList></Config>'


def content(*configs: str, version: str = "1.0") -> str:
    """Return an unsigned local document."""
    return f'<EOCS version="{version}">{"".join(configs)}</EOCS>'


def _but(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def bad() -> Iterator[tuple[str, str, str]]:
    """Yield name, unsigned document and reason of what is outside the profile."""
    one = content(config())
    yield "id-of-microsoft", content(config(identifier="M1")), "wrong_domain"
    yield "id-heartbeat", CONTENT, "wrong_domain"
    yield "id-of-both", content(config(), PING.strip()), "wrong_domain"
    yield "id-lower-case", content(config(identifier="local-1")), "config_id_malformed"
    yield "id-without-name", content(config(identifier="LOCAL-")), "config_id_malformed"
    yield "id-ends-with-dot", content(config(identifier="LOCAL-1.")), "config_id_malformed"
    yield "id-twice", content(config(), config()), "config_id_duplicate"
    yield "attribute-of-root", _but(one, "<EOCS ", '<EOCS shape="x" '), "local_structure"
    yield "attribute-of-config", content(config(attributes=' also="x"')), "local_structure"
    yield "without-description", _but(one, ' desc="Zero day"', ""), "local_structure"
    yield "empty-description", _but(one, '"Zero day"', '" "'), "local_value"
    yield "description-of-two-lines", _but(one, "Zero day", "Zero&#xA;day"), "local_value"
    yield "long-description", _but(one, "Zero day", "x" * 301), "local_value"
    yield "cve-malformed", content(config(attributes=' cve="CVE-26-1"')), "local_value"
    yield "without-list", _but(one, f"<ActionList>{INBOUND}</ActionList>", ""), "local_structure"
    yield "without-actions", content(config(actions="")), "local_structure"
    yield "nine-actions", content(config(actions="".join(_but(INBOUND, "zeroday", f"zero{n}") for n in range(9)))), "local_structure"
    yield "two-lists", _but(one, "</ActionList>", "</ActionList><ActionList></ActionList>"), "local_structure"
    yield "list-not-last", _but(one, "</ActionList>", f"</ActionList>{EFFECT}"), "local_structure"
    yield "many-effects", content(config(before=EFFECT * 9)), "local_structure"
    yield "foreign-element", content(config(before="<Run></Run>")), "local_structure"
    yield "foreign-element-in-list", content(config(actions=INBOUND + "<Run></Run>")), "local_structure"
    yield "text", content(config(before="rm -rf")), "local_structure"
    yield "text-in-action", _but(one, "</Action>", "x</Action>"), "local_structure"
    yield "action-type", _but(one, "RewriteInbound", "PowerShell"), "local_action"
    yield "action-do-nothing", _but(one, "RewriteInbound", "DoNothing"), "local_action"
    yield "action-scope", _but(one, 'scope="Server"', 'scope="Organization"'), "local_action"
    yield "action-attribute", _but(one, 'path="/"', 'file="x" path="/"'), "local_structure"
    yield "answer-redirect", _but(one, 'answer="abort"', 'answer="302"'), "local_answer"
    yield "answer-ok", _but(one, 'answer="abort"', 'answer="200"'), "local_answer"
    yield "path-elsewhere", _but(one, 'path="/"', 'path="/certsrv"'), "local_path"
    yield "site-elsewhere", _but(one, 'scope="Server"', 'scope="Server" site="Other"'), "local_path"
    yield "site-other-case", _but(one, 'scope="Server"', 'scope="Server" site="exchange back end"'), "local_path"
    yield "site-empty", _but(one, 'scope="Server"', 'scope="Server" site=""'), "local_path"
    yield "path-of-the-other-site", content(_but(config(BACK_END), 'path="/ecp"', 'path="/Rpc"')), "local_path"
    yield "path-other-case", content(_but(config(STATUS), 'path="/ecp"', 'path="/ECP"')), "local_path"
    yield "path-traversal", content(_but(config(STATUS), 'path="/ecp"', 'path="/ecp/.."')), "local_path"
    yield "without-condition", content(config('<Action answer="abort" desc="x" path="/" scope="Server" type="RewriteInbound"></Action>')), "local_structure"
    yield "same-condition-twice", content(_but(config(STATUS), '{REQUEST_METHOD}" pattern="^POST$', '{REQUEST_URI}" pattern="^/ecp/zero')), "local_structure"
    yield "same-rule-twice", content(config(INBOUND * 2)), "local_structure"
    yield "same-header-rule-twice", content(config(OUTBOUND * 2)), "local_structure"
    yield "five-conditions", _but(one, "</Action>", "".join(f'<When input="{{URL}}" pattern="a{n}"></When>' for n in range(4)) + "</Action>"), "local_structure"
    yield "condition-attribute", _but(one, "<When ", '<When file="x" '), "local_structure"
    for name, source in (
        ("credentials", "{HTTP_AUTHORIZATION}"),
        ("credentials-decoded", "{UrlDecode:{HTTP_AUTHORIZATION}}"),
        ("map", "{MyMap:{URL}}"),
        ("text", "fixed"),
        ("environment", "{APPL_PHYSICAL_PATH}"),
        ("response-in-request", "{RESPONSE_STATUS}"),
        ("blank", "{UrlDecode: {REQUEST_URI}}"),
    ):
        yield f"input-{name}", _but(one, "{UrlDecode:{REQUEST_URI}}", source), "local_input"
    for name, pattern in (
        ("everything", ".*"),
        ("everything-optional", "(?:abc)?"),
        ("empty", ""),
        ("unbalanced", "(abc"),
        ("inline-flags", "(?i)abc"),
        ("named-group", "(?P&lt;x>abc)"),
        ("look-behind", "(?&lt;=a)bc"),
        ("not-ascii", "\u0430bc"),
        ("long", "a" * 513),
    ):
        yield f"pattern-{name}", _but(one, "(?=.*autodiscover)(?=.*zeroday)", pattern), "local_pattern"
    out = content(config(OUTBOUND))
    yield "header-cookie", _but(out, "Content-Security-Policy", "Set-Cookie"), "local_header"
    yield "header-location", _but(out, "Content-Security-Policy", "Location"), "local_header"
    yield "header-other-case", _but(out, "Content-Security-Policy", "content-security-policy"), "local_header"
    yield "value-reference", _but(out, "{R:0}", "{HTTP_COOKIE}"), "local_value"
    yield "value-line-break", _but(out, "{R:0}; ", "{R:0}&#xD;&#xA;"), "local_value"
    yield "value-long", _but(out, "{R:0}; ", "x" * 1024), "local_value"
    yield "value-not-ascii", _but(out, "{R:0}; ", "\u00fc"), "local_value"
    yield "value-empty", _but(out, "{R:0}; script-src-attr 'none'", ""), "local_value"
    for forbidden in ("MSExchangeMitigation", "MSExchangeADTopology", "WinRM", "W3SVC", "WAS", "winrm", "MSExchangeIS", "Spooler"):
        yield f"service-{forbidden}", content(config(_but(SERVICE, "MSExchangeUM", forbidden))), "local_service"
    yield "service-nothing", content(config(_but(_but(SERVICE, 'stop="true"', 'stop="false"'), 'disable="true"', 'disable="false"'))), "local_value"
    yield "service-perhaps", content(config(_but(SERVICE, 'stop="true"', 'stop="yes"'))), "local_value"
    yield "service-twice", content(config(SERVICE * 2)), "local_structure"
    yield "pool-default", content(config(_but(POOL, "MSExchangeOABAppPool", "DefaultAppPool"))), "local_pool"
    yield "pool-powershell", content(config(_but(POOL, "MSExchangeOABAppPool", "MSExchangePowerShellFrontEndAppPool"))), "local_pool"
    yield "pool-twice", content(config(POOL * 2)), "local_structure"
    yield "applies-product", content(config(before=_but(APPLIES, "Exchange2019", "Exchange2013"))), "local_applies"
    yield "applies-product-alone", content(config(before='<Applies product="Exchange2013"></Applies>')), "local_applies"
    yield "applies-twice", content(config(before=APPLIES * 2)), "local_applies"
    yield "applies-build", content(config(before=_but(APPLIES, "15.2.1544.48", "latest"))), "local_applies"
    yield "applies-build-padded", content(config(before=_but(APPLIES, "15.2.1544.48", "15.02.1544.048"))), "local_applies"
    yield "applies-build-of-another", content(config(before=_but(APPLIES, "15.2.1544.48", "15.1.2507.75"))), "local_applies"
    yield "applies-branch-twice", content(config(before=_but(APPLIES, "15.2.1544.48", "15.2.1748.49"))), "local_applies"


def good() -> Iterator[tuple[str, str]]:
    """Yield name and unsigned document of what the profile has."""
    yield "abort", content(config())
    yield "status", content(config(STATUS))
    yield "header", content(config(OUTBOUND))
    yield "back-end", content(config(BACK_END))
    yield "both-sites", content(config(STATUS + BACK_END))
    yield "service", content(config(SERVICE))
    yield "pool", content(config(POOL))
    yield "everything", content(config(INBOUND + STATUS + OUTBOUND + SERVICE + POOL, before=APPLIES + EFFECT, attributes=' cve="CVE-2026-99999"'))
    yield "several", content(config(), config(OUTBOUND, "LOCAL-2026.2"), config(POOL, "LOCAL-b-3"), version="2026.11.3")
    yield "none", content()


def cases(pki: Pki) -> Iterator[Case]:
    """Yield the documents of this concern."""
    for name, text in good():
        yield Case(f"valid-local-{name}", sign(pki, text).bytes(), domain="local")
    for name, text, reason in bad():
        yield Case(f"local-{name}", sign(pki, text).bytes(), reason, domain="local")
    # The other way round: what is good in one domain is nothing in the other.
    yield Case("local-in-microsoft", sign(pki, content(config())).bytes(), "wrong_domain")
    yield Case("local-beside-microsoft", sign(pki, CONTENT.replace("</EOCS>", config() + "</EOCS>")).bytes(), "wrong_domain")
    yield Case("local-in-microsoft-lower-case", sign(pki, content(config(identifier="local-1"))).bytes(), "wrong_domain")
    yield Case("local-signed-by-another", sign(pki, content(config()), leaf=pki.evil_leaf, certificates=[pki.evil_leaf, pki.evil_root]).bytes(),
               "signature_mismatch", domain="local")
