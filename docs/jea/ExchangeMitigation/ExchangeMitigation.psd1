# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

@{
    ModuleVersion = '1.0.0'
    GUID = '87f98b22-b3a7-5d76-82b8-c7fd188221fa'
    Author = 'exchange.mitigation contributors'
    Description = 'Role capabilities for the Ansible collection exchange.mitigation'
    PowerShellVersion = '5.1'
    FunctionsToExport = @()
    CmdletsToExport = @()
    AliasesToExport = @()
}
