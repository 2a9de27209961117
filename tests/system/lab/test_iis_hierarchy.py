# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hierarchy of IIS against results written by hand: inheritance, locations, clears, removes, duplicates, locks, broken files."""

from __future__ import annotations

import pathlib

import pytest

from lab.iis_config import APPLICATION_HOST
from lab.iis_xml import ConfigError
from lab.machine import Machine

WWW, APP, SHARED = "C:\\www\\web.config", "C:\\app\\web.config", "C:\\shared\\web.config"

HOST = """<?xml version="1.0"?>
<configuration>
  <configSections>
    <sectionGroup name="system.applicationHost">
      <section name="applicationPools" allowDefinition="AppHostOnly" overrideModeDefault="Deny" />
      <section name="sites" allowDefinition="AppHostOnly" overrideModeDefault="Deny" />
    </sectionGroup>
    <sectionGroup name="system.webServer">
      <section name="globalModules" allowDefinition="AppHostOnly" overrideModeDefault="Deny" />
      <section name="handlers" overrideModeDefault="Deny" />
      <section name="modules" allowDefinition="MachineToApplication" overrideModeDefault="Allow" />
      <section name="httpErrors" overrideModeDefault="Allow" />
      <section name="httpProtocol" overrideModeDefault="Allow" />
      <section name="strange" overrideModeDefault="Allow" />
      <sectionGroup name="rewrite">
        <section name="rules" overrideModeDefault="Allow" />
        <section name="outboundRules" overrideModeDefault="Allow" />
      </sectionGroup>
    </sectionGroup>
  </configSections>
  <system.applicationHost>
    <applicationPools><add name="P" /></applicationPools>
    <sites>
      <site name="S" id="1">
        <application path="/" applicationPool="P">
          <virtualDirectory path="/" physicalPath="%SystemDrive%\\www" />
          <virtualDirectory path="/vdir" physicalPath="C:\\elsewhere" />
        </application>
        <application path="/app" applicationPool="P"><virtualDirectory path="/" physicalPath="C:\\app" /></application>
        <application path="/shared" applicationPool="P"><virtualDirectory path="/" physicalPath="C:\\shared" /></application>
        <application path="/shared/inner" applicationPool="P"><virtualDirectory path="/" physicalPath="C:\\shared" /></application>
      </site>
    </sites>
  </system.applicationHost>
  <system.webServer>
    <globalModules />
    <httpProtocol><customHeaders><clear /><add name="X-Host" value="1" /></customHeaders></httpProtocol>
    <httpErrors lockAttributes="defaultPath"><error statusCode="404" path="404.htm" /></httpErrors>
    <modules><add name="Static" /><add name="Locked" lockItem="true" /></modules>
    EXTRA
  </system.webServer>
  LOCATIONS
</configuration>
"""


def headers(*names: str, block: str = "") -> str:
    """A fragment that adds headers, within a location with the attributes ``block``."""
    adds = "".join(f'<add name="{name}" value="v" />' for name in names)
    body = f"<system.webServer><httpProtocol><customHeaders>{adds}</customHeaders></httpProtocol></system.webServer>"
    return f"<location {block}>{body}</location>" if block else body


def rules(*names: str, block: str = "", before: str = "") -> str:
    """A fragment that adds rewrite rules."""
    adds = "".join(f'<rule name="{name}"><match url=".*" /><action type="None" /></rule>' for name in names)
    body = f"<system.webServer><rewrite><rules>{before}{adds}</rules></rewrite></system.webServer>"
    return f"<location {block}>{body}</location>" if block else body


class Server:
    """A machine with a small configuration of its own."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.machine = Machine(directory)
        self.host()
        for folder in ("C:\\www\\sub", "C:\\app\\deep", "C:\\shared", "C:\\elsewhere"):
            self.machine.files.make_folder(folder)

    def host(self, extra: str = "", locations: str = "") -> None:
        self.machine.files.make_folder(APPLICATION_HOST.rpartition("\\")[0])
        self.machine.files.write(APPLICATION_HOST, HOST.replace("EXTRA", extra).replace("LOCATIONS", locations).encode())

    def put(self, path: str, *fragments: str) -> None:
        text = "<?xml version=\"1.0\"?>\r\n<configuration>\r\n" + "\r\n".join(fragments) + "\r\n</configuration>"
        self.machine.files.write(path, text.encode("utf-8-sig"))

    def section(self, name: str, path: str | None) -> list[str]:
        entry = self.machine.iis.section(f"system.webServer/{name}", None if path is None else "S", path or "/")
        if name == "httpProtocol":
            entry = entry.child("customHeaders")
        return [item.get("name") or item.get("statusCode") for item in entry.items]

    def refused(self, name: str, path: str) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            self.section(name, path)
        return caught.value


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Server:
    return Server(tmp_path)


# -- what is inherited -----------------------------------------------------------------------------------------------------

INHERITANCE = [
    # (id, {file: fragments}, path, headers expected)
    ("host-only", {}, "/", ["X-Host"]),
    ("host-reaches-applications", {}, "/app/deep", ["X-Host"]),
    ("root-adds", {WWW: [headers("A")]}, "/", ["X-Host", "A"]),
    ("root-reaches-folder", {WWW: [headers("A")]}, "/sub", ["X-Host", "A"]),
    ("root-reaches-application", {WWW: [headers("A")]}, "/app", ["X-Host", "A"]),
    ("root-reaches-vdir", {WWW: [headers("A")]}, "/vdir", ["X-Host", "A"]),
    ("parents-first", {WWW: [headers("A")], APP: [headers("B")]}, "/app", ["X-Host", "A", "B"]),
    ("application-not-upwards", {APP: [headers("B")]}, "/", ["X-Host"]),
    ("folder-file", {"C:\\app\\deep\\web.config": [headers("D")]}, "/app/deep", ["X-Host", "D"]),
    ("folder-file-by-case", {"C:\\app\\deep\\web.config": [headers("D")]}, "/APP/Deep/page.aspx", ["X-Host", "D"]),
    ("vdir-file", {"C:\\elsewhere\\web.config": [headers("V")]}, "/vdir/x", ["X-Host", "V"]),
    ("dot-location", {WWW: [headers("A", block='path="."')]}, "/", ["X-Host", "A"]),
    ("empty-location", {WWW: [headers("A", block='path=""')]}, "/", ["X-Host", "A"]),
    ("location-without-path", {WWW: [headers("A", block='inheritInChildApplications="true"')]}, "/app", ["X-Host", "A"]),
    ("not-inherited-own", {WWW: [headers("A", block='inheritInChildApplications="false"')]}, "/", ["X-Host", "A"]),
    ("not-inherited-own-folder", {WWW: [headers("A", block='inheritInChildApplications="false"')]}, "/sub", ["X-Host", "A"]),
    ("not-inherited-vdir", {WWW: [headers("A", block='inheritInChildApplications="false"')]}, "/vdir", ["X-Host", "A"]),
    ("not-inherited-application", {WWW: [headers("A", block='inheritInChildApplications="false"')]}, "/app", ["X-Host"]),
    ("not-inherited-below", {WWW: [headers("A", block='path="." inheritInChildApplications="false"')]}, "/app/deep", ["X-Host"]),
    ("sub-location", {WWW: [headers("A", block='path="sub"')]}, "/sub/page", ["X-Host", "A"]),
    ("sub-location-elsewhere", {WWW: [headers("A", block='path="sub"')]}, "/", ["X-Host"]),
    ("sub-location-of-application", {WWW: [headers("A", block='path="app"')], APP: [headers("B")]}, "/app", ["X-Host", "A", "B"]),
    ("sub-location-segment", {WWW: [headers("A", block='path="su"')]}, "/sub", ["X-Host"]),
    ("relative-to-application", {APP: [headers("A", block='path="deep"')]}, "/app/deep", ["X-Host", "A"]),
    ("shared-folder-once", {SHARED: [headers("A", block='inheritInChildApplications="false"')]}, "/shared", ["X-Host", "A"]),
    ("shared-folder-inner", {SHARED: [headers("A", block='inheritInChildApplications="false"')]}, "/shared/inner", ["X-Host", "A"]),
    ("clear", {WWW: [headers("A")], APP: [headers("B").replace("<customHeaders>", "<customHeaders><clear />")]}, "/app", ["B"]),
    ("remove", {WWW: [headers("A")], APP: [headers("B").replace("<customHeaders>", '<customHeaders><remove name="a" />')]}, "/app", ["X-Host", "B"]),
    ("remove-absent", {APP: [headers("B").replace("<customHeaders>", '<customHeaders><remove name="none" />')]}, "/app", ["X-Host", "B"]),
]  # fmt: skip


@pytest.mark.parametrize(("files", "path", "expected"), [row[1:] for row in INHERITANCE], ids=[row[0] for row in INHERITANCE])
def test_effective_headers(server: Server, files: dict[str, list[str]], path: str, expected: list[str]) -> None:
    for file, fragments in files.items():
        server.put(file, *fragments)
    assert server.section("httpProtocol", path) == expected


def test_remove_then_add_again_in_one_file(server: Server) -> None:
    server.put(WWW, rules("A"))
    server.put(APP, rules("A", "B", before='<remove name="A" />'))
    assert server.section("rewrite/rules", "/app") == ["A", "B"]


def test_location_of_application_host_applies_before_the_file(server: Server) -> None:
    server.host(locations=headers("H", block='path="S/app"'))
    server.put(WWW, headers("A"))
    server.put(APP, headers("B"))
    assert server.section("httpProtocol", "/app") == ["X-Host", "A", "H", "B"]
    assert server.section("httpProtocol", "/") == ["X-Host", "A"]


def test_attribute_of_a_deeper_level_wins(server: Server) -> None:
    server.put(WWW, '<system.webServer><httpErrors existingResponse="Replace" /></system.webServer>')
    server.put(APP, '<system.webServer><httpErrors existingResponse="PassThrough" /></system.webServer>')
    assert server.machine.iis.section("system.webServer/httpErrors", "S", "/app").get("existingResponse") == "PassThrough"
    assert server.machine.iis.section("system.webServer/httpErrors", "S", "/").get("existingResponse") == "Replace"


def test_declared_section_without_schema_is_read_by_structure(server: Server) -> None:
    server.put(WWW, '<system.webServer><strange a="1"><add x="1" /><add x="1" /><other b="2" /></strange></system.webServer>')
    entry = server.machine.iis.section("system.webServer/strange", "S", "/")
    assert (entry.get("a"), len(entry.items), entry.child("other").get("b")) == ("1", 2, "2")


def test_change_from_outside_is_seen_at_once(server: Server) -> None:
    server.put(WWW, headers("A"))
    assert server.section("httpProtocol", "/") == ["X-Host", "A"]
    server.machine.files.host_path(WWW).write_text("<configuration />")
    assert server.section("httpProtocol", "/") == ["X-Host"]


# -- what is refused -------------------------------------------------------------------------------------------------------


def test_duplicate_rule_of_parent_and_child(server: Server) -> None:
    server.put(WWW, rules("A"))
    server.put(APP, rules("A"))
    assert server.section("rewrite/rules", "/") == ["A"]
    error = server.refused("rewrite/rules", "/app")
    assert error.code == 0x800700B7
    assert error.text() == (
        "Filename: \\\\?\\C:\\app\\web.config\r\nLine number: 3\r\n"
        "Error: Cannot add duplicate collection entry of type 'rule' with unique key attribute 'name' set to 'A'\r\n\r\n"
    )


def test_duplicate_names_compare_without_case(server: Server) -> None:
    server.put(WWW, rules("Rule", "rULE"))
    assert "set to 'rULE'" in server.refused("rewrite/rules", "/").message


def test_duplicate_of_combined_keys(server: Server) -> None:
    server.put(WWW, '<system.webServer><httpErrors><error statusCode="404" path="x" /></httpErrors></system.webServer>')
    assert server.refused("httpErrors", "/").message == (
        "Cannot add duplicate collection entry of type 'error' with combined key attributes 'statusCode, subStatusCode' respectively set to '404, -1'"
    )


def test_shared_folder_reads_the_rule_twice(server: Server) -> None:
    server.put(SHARED, rules("A"))
    assert server.section("rewrite/rules", "/shared") == ["A"]
    error = server.refused("rewrite/rules", "/shared/inner")
    assert (error.file, error.line, error.code) == ("\\\\?\\" + SHARED, 3, 0x800700B7)


def test_shared_folder_with_remove_before_the_rule(server: Server) -> None:
    server.put(SHARED, rules("A", before='<remove name="A" />'))
    assert server.section("rewrite/rules", "/shared/inner") == ["A"]


def test_section_twice_at_one_level(server: Server) -> None:
    server.put(WWW, rules("A"), rules("B"))
    assert server.refused("rewrite/rules", "/").message == "There is a duplicate 'system.webServer/rewrite/rules' section defined"


def test_section_outside_and_in_a_pathless_location_is_twice_at_one_level(server: Server) -> None:
    server.put(WWW, rules("A"), rules("B", block='path="." inheritInChildApplications="false"'))
    assert server.refused("rewrite/rules", "/").code == 0x800700B7
    assert server.section("httpProtocol", "/") == ["X-Host"], "another section of the same file is not affected"


def test_locked_by_default(server: Server) -> None:
    server.put(WWW, "<system.webServer><handlers /></system.webServer>")
    error = server.refused("handlers", "/")
    assert (error.code, error.line) == (0x80070021, 3)
    assert error.message.startswith("This configuration section cannot be used at this path.")


def test_unlocked_by_location_in_application_host(server: Server) -> None:
    server.host(locations='<location path="S" overrideMode="Allow"><system.webServer><handlers /></system.webServer></location>')
    server.put(APP, '<system.webServer><handlers><add name="h" /></handlers></system.webServer>')
    assert server.section("handlers", "/app") == ["h"]


def test_locked_by_location_in_a_parent_file(server: Server) -> None:
    server.put(WWW, rules("A", block='path="app" allowOverride="false"'))
    server.put(APP, rules("B"))
    assert server.refused("rewrite/rules", "/app").code == 0x80070021
    assert server.section("rewrite/rules", "/sub") == []


def test_application_host_itself_may_set_locked_sections_in_locations(server: Server) -> None:
    server.host(locations='<location path="S/app"><system.webServer><handlers><add name="h" /></handlers></system.webServer></location>')
    assert server.section("handlers", "/app") == ["h"]


def test_section_of_application_host_only(server: Server) -> None:
    server.put(WWW, "<system.webServer><globalModules /></system.webServer>")
    assert server.refused("globalModules", "/").code == 0x80070021


def test_section_of_applications_in_a_folder(server: Server) -> None:
    server.put(APP, '<system.webServer><modules><add name="m" /></modules></system.webServer>')
    assert server.section("modules", "/app") == ["Static", "Locked", "m"]
    server.put("C:\\app\\deep\\web.config", '<system.webServer><modules><add name="n" /></modules></system.webServer>')
    assert server.refused("modules", "/app/deep").code == 0x80070021


def test_locked_item_cannot_be_removed_nor_cleared(server: Server) -> None:
    server.put(WWW, '<system.webServer><modules><remove name="Locked" /></modules></system.webServer>')
    assert server.refused("modules", "/").message == "Lock violation"
    server.put(WWW, "<system.webServer><modules><clear /></modules></system.webServer>")
    assert server.refused("modules", "/").message == "Lock violation"
    server.put(WWW, '<system.webServer><modules><remove name="Static" /></modules></system.webServer>')
    assert server.section("modules", "/") == ["Locked"]


def test_locked_attribute(server: Server) -> None:
    server.put(WWW, '<system.webServer><httpErrors defaultPath="x" /></system.webServer>')
    assert server.refused("httpErrors", "/").message == "Lock violation"


def test_locked_element(server: Server) -> None:
    server.host(locations='<location path="S"><system.webServer><httpProtocol lockElements="customHeaders" /></system.webServer></location>')
    server.put(WWW, headers("A"))
    assert server.refused("httpProtocol", "/").message == "Lock violation"


def test_undeclared_group_is_refused(server: Server) -> None:
    server.put(WWW, "<system.webServer><unknown /></system.webServer>")
    error = server.refused("httpProtocol", "/")
    assert (error.message, error.code, error.line) == ("Unrecognized element 'unknown'", 0x8007000D, 3)


def test_net_sections_are_nobodys_business(server: Server) -> None:
    server.put(WWW, "<system.web><compilation /></system.web>", '<appSettings><add key="a" /></appSettings>', headers("A"))
    assert server.section("httpProtocol", "/") == ["X-Host", "A"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("<configuration>\n<system.webServer>\n<system.webServer>\n</configuration>", 4),
        ("<configuration>\n<a b='1' b='2' />\n</configuration>", 2),
        ("", 1),
        ("<configuration />\n<configuration />", 2),
        ("<!DOCTYPE configuration>\n<configuration />", 1),
        ("<configuration>&nothing;</configuration>", 1),
    ],
    ids=["unclosed", "attribute-twice", "empty", "two-roots", "doctype", "entity"],
)
def test_malformed_file_names_file_and_line(server: Server, text: str, line: int) -> None:
    server.machine.files.write(APP, text.encode())
    error = server.refused("httpProtocol", "/app")
    assert (error.file, error.line, error.code) == ("\\\\?\\" + APP, line, 0x8007000D)
    assert error.message == "Configuration file is not well-formed XML"
    assert server.section("httpProtocol", "/") == ["X-Host"], "parents do not read the file of the child"


def test_rule_attributes_and_elements_are_checked(server: Server) -> None:
    server.put(WWW, rules("A").replace("<match", '<match colour="red"'))
    assert server.refused("rewrite/rules", "/").message == "Unrecognized attribute 'colour'"
    server.put(WWW, rules("A").replace("<match", "<colour /><match"))
    assert server.refused("rewrite/rules", "/").message == "Unrecognized element 'colour'"
    server.put(WWW, rules("A").replace('name="A"', 'name="A" enabled="maybe"'))
    assert "Not a valid boolean" in server.refused("rewrite/rules", "/").message
    server.put(WWW, rules("A").replace('name="A"', ""))
    assert server.refused("rewrite/rules", "/").message == "Required attribute 'name' not found"


def test_only_the_section_with_the_mistake_fails(server: Server) -> None:
    server.put(WWW, rules("A", "A").replace("<rewrite>", "<httpProtocol><customHeaders><add name='N' value='1' /></customHeaders></httpProtocol><rewrite>"))
    assert server.section("httpProtocol", "/") == ["X-Host", "N"]
    assert server.refused("rewrite/rules", "/").code == 0x800700B7


def test_conditions_may_repeat(server: Server) -> None:
    conditions = '<conditions><add input="{URL}" pattern="a" /><add input="{URL}" pattern="a" /></conditions>'
    server.put(WWW, rules("A").replace("<action", conditions + "<action"))
    assert len(server.machine.iis.section("system.webServer/rewrite/rules", "S", "/").items[0].child("conditions").items) == 2
