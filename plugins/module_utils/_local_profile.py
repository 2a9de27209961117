# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The profile of local documents: every list and limit, in one place. The guide prints these tables, and a test compares them.

What is not listed is refused. Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import re

from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import DEFAULT_SITE
from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import shown

MAX_ACTIONS = 8  #: of one mitigation
MAX_CONDITIONS = 4  #: of one rewrite action
MAX_SIDE_EFFECTS = 8
MAX_TEXT = 300  #: characters of a description
MAX_PATTERN = 512
MAX_VALUE = 1024

IDENTIFIER = re.compile(r"LOCAL-[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*", re.ASCII)
CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,7}", re.ASCII)
BUILD = re.compile(r"15\.[12]\.[0-9]{1,4}\.[0-9]{1,4}", re.ASCII)
#: Matches no name: EM makes no rule of a local mitigation.
NEVER = r"(?!)"

INBOUND, OUTBOUND, SERVICE, POOL = "RewriteInbound", "RewriteOutbound", "Service", "AppPool"

ABORT = "abort"
#: What an inbound rule answers: the connection is dropped, or a status is sent.
ANSWERS = (ABORT, "400", "403", "404", "410", "503")

#: Applications of Exchange's front end. A rule at / is inherited by all of them; below it is for that application alone.
PATHS = ("/", "/API", "/Autodiscover", "/EWS", "/Microsoft-Server-ActiveSync", "/OAB", "/PowerShell", "/Rpc", "/ecp", "/mapi", "/owa")
#: The same of the back end, to which the front end passes requests on. Not /Rpc, which lives in a folder of Windows.
BACK_END_PATHS = (
    "/", "/API", "/Autodiscover", "/EWS", "/Microsoft-Server-ActiveSync", "/OAB", "/PowerShell", "/PushNotifications",
    "/ecp", "/mapi/emsmdb", "/mapi/nspi", "/owa",
)  # fmt: skip
BACK_END = "Exchange Back End"
#: The sites that rules may be for, each with its paths; the first is meant where none is named.
SITES = {DEFAULT_SITE: PATHS, BACK_END: BACK_END_PATHS}

#: Response headers that tell browsers to be careful, and those that tell an attacker the version. None that carries a session or routes.
HEADERS = (
    "Cache-Control",
    "Content-Security-Policy",
    "Content-Security-Policy-Report-Only",
    "Cross-Origin-Embedder-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
    "Referrer-Policy",
    "Server",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-OWA-Version",
)

#: Services whose absence costs a feature, not the server.
SERVICES = (
    "MSExchangeAntispamUpdate",
    "MSExchangeEdgeSync",
    "MSExchangeFastSearch",
    "MSExchangeIMAP4BE",
    "MSExchangeImap4",
    "MSExchangeMailboxAssistants",
    "MSExchangeMailboxReplication",
    "MSExchangeNotificationsBroker",
    "MSExchangePOP3BE",
    "MSExchangePop3",
    "MSExchangeUM",
    "MSExchangeUMCR",
)
#: Without these there is no Exchange, no EM, or no way back.
FORBIDDEN_SERVICES = ("MSExchangeADTopology", "MSExchangeMitigation", "W3SVC", "WAS", "WinRM")

POOLS = (
    "MSExchangeECPAppPool",
    "MSExchangeOABAppPool",
    "MSExchangeOWACalendarAppPool",
    "MSExchangePushNotificationsAppPool",
    "MSExchangeRestAppPool",
    "MSExchangeRestFrontEndAppPool",
    "MSExchangeRpcProxyAppPool",
    "MSExchangeRpcProxyFrontEndAppPool",
    "MSExchangeSyncAppPool",
)

#: Server variables of the request that a condition may look at, besides any request header as HTTP_NAME.
REQUEST_VARIABLES = ("CONTENT_LENGTH", "CONTENT_TYPE", "QUERY_STRING", "REMOTE_ADDR", "REQUEST_METHOD", "REQUEST_URI", "UNENCODED_URL", "URL")
#: For a response header's conditions also these.
RESPONSE_VARIABLES = ("RESPONSE_CONTENT_TYPE", "RESPONSE_STATUS")
#: Request headers that no pattern gets to see.
FORBIDDEN_INPUTS = ("HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION")

_VARIABLE = re.compile(r"\{(?:([A-Z_0-9]{1,64})|UrlDecode:\{([A-Z_0-9]{1,64})\})\}", re.ASCII)
_REFERENCE = re.compile(r"\{R:[01]\}")
#: Groups that both ECMAScript and Python read alike: capturing, plain, looking ahead.
_GROUP = re.compile(r"(?<!\\)(?:\\\\)*\(\?(?![:=!])")


def escape(identifier: str) -> str:
    """Return the pattern that an id alone matches."""
    return re.escape(identifier)


def quoted(text: str) -> str:
    """Return a part of a document for a message, where braces and backslashes would be unreadable as codes; bounded and one line."""
    return shown(text.replace("{", "(").replace("}", ")").replace("\\", "/"), 80)


def is_input(text: str, response: bool) -> bool:
    """Say whether a condition may look at this; ``response`` for a rule on a response header."""
    found = _VARIABLE.fullmatch(text)
    name = (found[1] or found[2]) if found else ""
    if name in FORBIDDEN_INPUTS:
        return False
    return name in REQUEST_VARIABLES or bool(re.fullmatch(r"HTTP_[A-Z0-9_]+", name)) or (response and name in RESPONSE_VARIABLES)


def pattern_problem(text: str) -> str:
    """Return what is wrong with a regular expression, empty where nothing is.

    URL Rewrite reads ECMAScript; what Python's reader takes too, without its own extensions, is taken here.
    """
    if not text or len(text) > MAX_PATTERN or not all(" " <= character <= "~" for character in text):
        return f"is empty, longer than {MAX_PATTERN} characters, or not printable ASCII"
    if _GROUP.search(text):
        return "has a group other than (...), (?:...), (?=...) and (?!...)"
    try:
        expression = re.compile(text, re.IGNORECASE | re.ASCII)
    except (re.error, RecursionError, OverflowError):
        return "is not a regular expression"
    if expression.search(""):
        return "fits the empty text, and with it everything"
    return ""


def is_header_value(text: str) -> bool:
    """Say whether a response header may get this value; ``{R:0}`` stands for the one it had."""
    rest = _REFERENCE.sub("", text)
    return 0 < len(text) <= MAX_VALUE and all(" " <= character <= "~" for character in text) and not set("{}") & set(rest)


def never(name: str) -> str:
    """Return the sentence for a service that is never touched."""
    forbidden = name.casefold() in {entry.casefold() for entry in FORBIDDEN_SERVICES}
    return "It is never touched: without it there is no Exchange, no EM, or no way back." if forbidden else ""
