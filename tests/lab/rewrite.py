# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""URL Rewrite: inbound rules on a request, outbound rules on a response, from the effective sections."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from collections.abc import Callable, Mapping

from lab.iis_merge import Entry

ABORT = "abort"


class RewriteProblem(Exception):
    """A rule that the module cannot run: answers 500 with ``substatus`` 50, 51 or 52."""

    def __init__(self, substatus: int, message: str) -> None:
        super().__init__(message)
        self.substatus = substatus


@dataclasses.dataclass
class Request:
    """A request as the module sees it; ``url`` is the path and query as sent."""

    method: str
    url: str
    headers: dict[str, str]
    secure: bool = True

    @property
    def raw_path(self) -> str:
        """The path as sent."""
        return self.url.partition("?")[0]

    @property
    def path(self) -> str:
        """The path, decoded once."""
        return urllib.parse.unquote(self.raw_path, errors="replace")

    @property
    def query(self) -> str:
        """The query as sent, without ``?``."""
        return self.url.partition("?")[2]


@dataclasses.dataclass
class Response:
    """A response; header names keep their spelling and compare without case."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    substatus: int = 0
    reason: str = ""

    def header(self, name: str) -> str:
        """Return a header, empty when it is absent."""
        return next((value for known, value in self.headers.items() if known.lower() == name.lower()), "")

    def set_header(self, name: str, value: str) -> None:
        """Set a header under the spelling it has."""
        known = next((known for known in self.headers if known.lower() == name.lower()), name)
        self.headers[known] = value


@dataclasses.dataclass
class Scope:
    """What rules of one request share: variables, maps, and which server variables may be set."""

    request: Request
    response: Response | None = None
    maps: Mapping[str, Entry] = dataclasses.field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    physical: Callable[[str], tuple[bool, bool]] = lambda path: (False, False)
    assigned: dict[str, str] = dataclasses.field(default_factory=dict)

    def variable(self, name: str) -> str:
        """Return a server variable, empty when it is unknown."""
        upper = name.upper()
        if upper in self.assigned:
            return self.assigned[upper]
        request = self.request
        if upper.startswith("RESPONSE_"):
            if self.response is None:
                return ""
            return str(self.response.status) if upper == "RESPONSE_STATUS" else self.response.header(name[9:].replace("_", "-"))
        known = {
            "REQUEST_URI": request.url, "QUERY_STRING": request.query, "URL": request.path, "UNENCODED_URL": request.url,
            "SCRIPT_NAME": request.path, "PATH_INFO": request.path, "REQUEST_METHOD": request.method, "REQUEST_FILENAME": request.path,
            "HTTPS": "on" if request.secure else "off", "SERVER_PORT": "443" if request.secure else "80", "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1", "CONTENT_TYPE": self._header("Content-Type"), "CONTENT_LENGTH": self._header("Content-Length"),
        }  # fmt: skip
        if upper in known:
            return known[upper]
        return self._header(name[5:].replace("_", "-")) if upper.startswith("HTTP_") else ""

    def _header(self, name: str) -> str:
        return next((value for known, value in self.request.headers.items() if known.lower() == name.lower()), "")


@dataclasses.dataclass
class Captures:
    """Back-references: R of the rule's pattern, C of the conditions."""

    rule: list[str] = dataclasses.field(default_factory=list)
    conditions: list[str] = dataclasses.field(default_factory=list)


def expand(text: str, scope: Scope, captures: Captures) -> str:
    """Expand ``{…}`` in an input or a value: variables, functions, back-references, rewrite maps; they nest."""
    result = ""
    position = 0
    while position < len(text):
        if text[position] != "{":
            result += text[position]
            position += 1
            continue
        depth, end = 1, position + 1
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        if depth:
            return result + text[position:]
        result += _reference(text[position + 1 : end - 1], scope, captures)
        position = end
    return result


def _reference(inside: str, scope: Scope, captures: Captures) -> str:
    name, colon, rest = inside.partition(":")
    if not colon:
        return scope.variable(inside)
    if name in ("R", "C") and rest.isdigit():
        found = captures.rule if name == "R" else captures.conditions
        return found[int(rest)] if int(rest) < len(found) else ""
    value = expand(rest, scope, captures)
    functions: dict[str, Callable[[str], str]] = {
        "urldecode": lambda item: urllib.parse.unquote(item, errors="replace"),
        "urlencode": lambda item: urllib.parse.quote(item, safe=""),
        "tolower": str.lower,
    }
    if name.lower() in functions:
        return functions[name.lower()](value)
    for known, table in scope.maps.items():
        if known.lower() == name.lower():
            same = str.lower if table.get("ignoreCase").lower() != "false" else str
            return next((item.get("value") for item in table.items if same(item.get("key")) == same(value)), table.get("defaultValue"))
    raise RewriteProblem(50, f"The expression \"{{{inside}}}\" is not a known function or rewrite map")


def find(pattern: str, value: str, syntax: str, ignore_case: bool) -> list[str] | None:
    """Match a pattern; returns the groups (0 first) or None. Raises RewriteProblem 52 for a bad expression."""
    flags = re.ASCII | (re.IGNORECASE if ignore_case else 0)
    if syntax == "ExactMatch":
        same = value.lower() == pattern.lower() if ignore_case else value == pattern
        return [value] if same else None
    if syntax == "Wildcard":
        pattern = "^" + "(.*)".join(re.escape(part) for part in pattern.split("*")) + r"\Z"
        flags |= re.DOTALL
    try:
        match = re.search(re.sub(r"(?<!\\)\$$", r"\\Z", pattern) if syntax != "Wildcard" else pattern, value, flags)
    except re.error as error:
        raise RewriteProblem(52, f"The expression \"{pattern}\" is not a valid regular expression: {error}") from error
    return None if match is None else [match.group(0), *(group or "" for group in match.groups())]


def conditions_hold(group: Entry, syntax: str, scope: Scope, captures: Captures) -> bool:
    """Evaluate conditions (or a precondition); their captures go to ``captures``."""
    results = []
    any_is_enough = group.get("logicalGrouping") == "MatchAny"
    for item in group.items:
        value = expand(item.get("input"), scope, captures)
        kind = item.get("matchType") or "Pattern"
        if kind == "Pattern":
            groups = find(item.get("pattern"), value, syntax, item.flag("ignoreCase"))
        else:
            is_file, is_folder = scope.physical(value)
            groups = [value] if (is_file if kind == "IsFile" else is_folder) else None
        holds = (groups is not None) != item.flag("negate")
        if holds and groups is not None:
            captures.conditions = captures.conditions + groups if group.flag("trackAllCaptures") else groups
        results.append(holds)
        if holds and any_is_enough:
            return True
        if not holds and not any_is_enough:
            return False
    return not results or not any_is_enough


def inbound(rules: Entry, scope: Scope, base: Callable[[Entry], str]) -> Response | str | None:
    """Run inbound rules; returns ABORT, a response that ends the request, or None. A rewrite changes ``scope.request``."""
    for rule in rules.items:
        if not rule.flag("enabled"):
            continue
        captures = Captures()
        match, syntax = rule.child("match"), rule.get("patternSyntax")
        path = scope.request.path
        prefix = base(rule).rstrip("/") + "/"
        relative = path[len(prefix) :] if path.lower().startswith(prefix.lower()) else ("" if path.lower() + "/" == prefix.lower() else path.lstrip("/"))
        groups = find(match.get("url"), relative, syntax, match.flag("ignoreCase"))
        if (groups is not None) == match.flag("negate"):
            continue
        captures.rule = groups or []
        if not conditions_hold(rule.child("conditions"), syntax, scope, captures):
            continue
        for setting in rule.child("serverVariables").items:
            name = setting.get("name").upper()
            if name not in scope.allowed:
                raise RewriteProblem(50, f"The server variable \"{setting.get('name')}\" is not allowed to be set.")
            scope.assigned[name] = expand(setting.get("value"), scope, captures)
        answer = _act(rule.child("action"), scope, captures)
        if answer is not None:
            return answer
        if rule.flag("stopProcessing"):
            break
    return None


def _act(action: Entry, scope: Scope, captures: Captures) -> Response | str | None:
    kind = action.get("type")
    if kind == "AbortRequest":
        return ABORT
    if kind == "CustomResponse":
        status = int(action.get("statusCode") or 0)
        body = action.get("statusDescription").encode()
        return Response(status, {"Content-Type": "text/html"}, body, int(action.get("subStatusCode") or 0), action.get("statusReason"))
    if kind in ("Rewrite", "Redirect"):
        url = expand(action.get("url"), scope, captures)
        if not re.match(r"^[a-z]+://", url, re.IGNORECASE) and not url.startswith("/"):
            url = "/" + url
        if action.flag("appendQueryString") and scope.request.query:
            url += ("&" if "?" in url else "?") + scope.request.query
        if kind == "Rewrite":
            scope.assigned.setdefault("REQUEST_URI", scope.request.url)
            scope.request = dataclasses.replace(scope.request, url=url)
            return None
        status = {"Permanent": 301, "Found": 302, "SeeOther": 303, "Temporary": 307}.get(action.get("redirectType"), 301)
        return Response(status, {"Location": url, "Content-Type": "text/html"})
    if kind == "None":
        return None
    raise RewriteProblem(50, f"Unknown action type \"{kind}\"")


def outbound(section: Entry, scope: Scope) -> None:
    """Run outbound rules that rewrite response headers on ``scope.response``; rules on the body's tags are refused."""
    assert scope.response is not None
    preconditions = {item.get("name").lower(): item for item in section.child("preConditions").items}
    for rule in section.items:
        if not rule.flag("enabled"):
            continue
        captures = Captures()
        wanted = rule.get("preCondition")
        if wanted:
            if wanted.lower() not in preconditions:
                raise RewriteProblem(50, f"The precondition \"{wanted}\" is not defined")
            precondition = preconditions[wanted.lower()]
            if not conditions_hold(precondition, precondition.get("patternSyntax"), scope, Captures()):
                continue
        match, syntax = rule.child("match"), rule.get("patternSyntax")
        variable = match.get("serverVariable")
        if not variable.upper().startswith("RESPONSE_"):
            raise RewriteProblem(50, f"The lab imitates outbound rules on RESPONSE_* only, not \"{variable or 'the body'}\"")
        groups = find(match.get("pattern"), scope.variable(variable), syntax, match.flag("ignoreCase"))
        if (groups is not None) == match.flag("negate"):
            continue
        captures.rule = groups or []
        if not conditions_hold(rule.child("conditions"), syntax, scope, captures):
            continue
        if rule.child("action").get("type") == "Rewrite":
            scope.response.set_header(variable[9:].replace("_", "-"), expand(rule.child("action").get("value"), scope, captures))
        if rule.flag("stopProcessing"):
            break
