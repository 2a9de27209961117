# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cause and cure of every reason code that no table in the code explains: what the guide on troubleshooting says of them.

A row for a code that the code does not return is not printed; a code without a row fails the test.
"""

from __future__ import annotations

from collections.abc import Mapping

Rows = Mapping[str, tuple[str, str]]

REACH: Rows = {
    "authentication_refused": (
        "The server, or Exchange's endpoint, refuses user and password.",
        "Check user, password and authentication method. If Windows answers and only Exchange refuses, it wants Kerberos: see above.",
    ),
    "authentication_not_offered": (
        "The server does not offer the authentication method of the connection.",
        "Choose one that it offers: ``ansible_winrm_transport``, ``ansible_psrp_auth``, ``exchange_auth``.",
    ),
    "kerberos_failed": (
        "The Kerberos library could not log on.",
        "``kinit``, then ``klist``; check realm, the server's FQDN and the clock. An IP address never works.",
    ),
    "access_denied": (
        "The account may log on but may not use the endpoint; or it may not change the service.",
        "Use a local administrator of the server, or the JEA endpoint made for it (``host_configuration_name``).",
    ),
    "name_not_resolved": ("The name of the server does not resolve on the controller.", "Check DNS, or set ``ansible_host`` to the FQDN."),
    "connection_refused": ("Nothing listens at this address and port.", "Check ``ansible_port`` and scheme, and that the service WinRM (or W3SVC) runs."),
    "connection_timeout": ("The connection was not accepted in time.", "Check address, port and every firewall on the way."),
    "host_unreachable": ("There is no route to the server.", "Check the network."),
    "proxy_failed": (
        "The proxy in the connection's options does not lead to the server.",
        "Check it; leave it out for servers inside (``no_proxy``, ``ansible_psrp_ignore_proxy``).",
    ),
    "tls_failed": (
        "The server's certificate is not trusted for this name.",
        "Give the authority's certificate (``ansible_winrm_ca_trust_path``, ``ansible_psrp_ca_cert``, ``exchange_ca_path``).",
    ),
    "endpoint_not_found": (
        "There is no such address or session configuration on the server.",
        "Check scheme, port and path; with ``host_configuration_name``, check that the JEA endpoint is registered.",
    ),
    "service_unavailable": ("The web service answers 503.", "Look at the application pool, and whether the server is still starting."),
    "http_error": ("The address answers with an unexpected HTTP status.", "Look at the log of the web server, and at devices between."),
    "connection_lost": ("The connection was closed in the middle.", "Run again. The state is read anew, and what was under way is settled by the journal."),
    "read_timeout": ("The server did not answer in time.", "Look at its load; raise the connection's read timeout."),
    "operation_timeout": ("A single operation took longer than the session allows.", "Run again, or raise the connection's operation timeout."),
    "session_lost": ("The server no longer knows the session: WinRM or the server restarted.", "Run again."),
    "other_machine": (
        "The connection had to be opened again, and the address led to another computer than before.",
        "Give each server an address of its own in the inventory: no load balancer's, no name with several addresses.",
    ),
    "machine_unproven": ("The connection had to be opened again, and the computer did not tell its name.", "Run again."),
    "session_broken": ("The PowerShell session ended in the middle.", "Run again; if it stays, look at the event log of Windows Remote Management."),
    "shell_quota": (
        "The user has as many sessions as the server, or Exchange, allows.",
        "Close other sessions, lower ``forks`` or ``throttle``, or raise the quota.",
    ),
    "operation_quota": ("The user has as many operations as the server allows.", "Run again with less at once, or raise the quota."),
    "user_quota": ("The server has as many users as it allows.", "Close other sessions, or raise MaxConcurrentUsers."),
    "wsman_fault": ("WS-Management reports a fault that has no code of its own here.", "Read the text of the fault in the message."),
    "connection_failed": ("The connection could not be used for another reason.", "Read the message; check with ``ansible.windows.win_ping``."),
    "answer_malformed": ("The answer is not what the cmdlet or the protocol gives.", "Check that the address is that of WinRM. If it is, please report it."),
}

EXCHANGE: Rows = {
    "cmdlet_failed": ("A cmdlet reported an error.", "The message has its text; ``fqid`` and ``category`` say which error it is."),
    "cmdlet_not_available": (
        "The endpoint, or the role of the account, lacks the cmdlet or one of its parameters.",
        "Give the account the role that has it. On a JEA endpoint, install the role capability of this version.",
    ),
    "cmdlet_prompted": ("A cmdlet asked for input, where nobody answers; it was stopped.", "Please report it."),
    "cmdlet_not_allowed": ("The collection was about to use a cmdlet or parameter outside its table; nothing was sent.", "Please report it."),
    "answer_incomplete": ("Exchange answered without the organisation.", "Run again; if it stays, look at ``Get-OrganizationConfig`` in the management shell."),
    "server_not_found": ("The organisation has no Exchange server of this name.", "Set ``identity`` to the name that ``Get-ExchangeServer`` shows."),
    "change_not_visible": (
        "The cmdlet reported no error, but its domain controller still shows the old values.",
        "Run again; if it stays, look at the health of Active Directory.",
    ),
    "block_not_visible": ("The block that was just set cannot be read back. Nothing was changed on the server.", "Run again; see the row above."),
    "block_not_lifted": ("The block that was just lifted is still shown.", "Run again."),
    "em_not_supported": (
        "The build is from before Emergency Mitigation (2016 CU22, 2019 CU11).",
        "Update it; or apply mitigations without EM, which works there too.",
    ),
    "em_state_unknown": (
        "It cannot be told whether EM is active, so nor who is to write.",
        "Let the organisation be read (``exchange_mitigation_exchange_host``...), or say ``when_em_active: take_over``.",
    ),
}

REFUSED: Rows = {
    "edge_server": ("An Edge Transport server has no EM and no mitigations.", "Take it out of the group."),
    "no_exchange": ("There is no Exchange on the machine.", "Take it out of the group."),
    "management_tools_only": ("The machine has the management tools alone.", "Take it out of the group."),
    "unsupported_product": ("The server runs something older than Exchange 2016.", "Take it out of the group, and off the internet."),
    "build_unknown": ("The build could not be told, so it is unknown whether the mitigation is needed.", "Look why ExSetup.exe cannot be read on that server."),
    "unsupported_mitigation": (
        "The feed publishes a mitigation that the catalogue of this version lacks.",
        "Update the collection. Until then ``on_unsupported: warn`` lets the run go on; EM itself may apply it.",
    ),
    "url_rewrite_missing": ("URL Rewrite is not there or not usable; nothing was written.", "Run ``exchange.mitigation.prepare``."),
    "conflicting": (
        "A rule with one of our names does something else, or does not take effect.",
        "Look at the evidence. ``on_conflict: replace`` writes it anew, ``skip`` leaves it.",
    ),
    "disabled": ("The rule is there and switched off.", "Ask who did it. ``on_conflict: replace`` writes it anew, ``skip`` leaves it."),
    "local_definition_needed": (
        "The file was changed since the run that is to be undone, and a local document defines the rules.",
        "Give the task its ``feed``.",
    ),
    "health_unreachable": (
        "A required health check could not reach the server before the change; nothing was changed.",
        "Set ``health.url``, ``health.ca_path`` or ``health.from`` to what reaches it.",
    ),
}

IIS: Rows = {
    "configuration_malformed": (
        "A web.config or applicationHost.config is not well-formed XML.",
        "File and line are in the result. Repair it; IIS answers 500.19 there as well.",
    ),
    "configuration_not_read": ("A configuration file could not be read.", "The message says why: rights, a lock, or a path that does not exist."),
    "configuration_unknown": ("The configuration could not be understood.", "Read the message, and please report it."),
    "configuration_encrypted": ("The section is encrypted.", "Decrypt it with ``aspnet_regiis``, or leave this server out."),
    "site_missing": ("IIS has no site of that name.", "Give the front end's name as ``site``."),
    "path_missing": ("No virtual directory serves the path.", "Repair the virtual directory; a mitigation for it has no place to stand."),
    "file_missing": ("A web.config that Exchange always has is missing.", "Repair the installation first."),
    "section_locked": ("The section is locked for this path.", "Unlock it where the message says."),
    "section_twice": ("The section stands in the file already, in another place.", "Merge the two by hand; IIS does not allow a second one."),
    "section_elsewhere": ("The section lives in another file (configSource).", "Move it back, or write the rule by hand."),
    "would_break": ("After the change some path would answer 500.19; nothing was written.", "The message names file and line. Mend that first."),
    "would_not_apply": ("The rule would stand there without effect; nothing was written.", "The message says what takes its effect away."),
}

CHANGE: Rows = {
    "file_changed": (
        "Something else changed the file while it was planned, twice in a row.",
        "Find out what writes there (EM, antivirus, configuration management), then run again.",
    ),
    "read_back_differs": (
        "What was written beside the file could not be read back. The file is untouched.",
        "Look at antivirus and free space, then run again.",
    ),
    "write_failed": ("The new bytes could not be written beside the file. It is untouched.", "Look at rights and free space."),
    "replace_failed": ("The file could not be replaced and is as before.", "See who holds it open, then run again."),
    "check_failed": ("IIS does not take the new file; the bytes before are back.", "The message has what IIS said."),
    "file_unsettled": (
        "The file holds neither the bytes before nor those after.",
        "The bytes before are in the journal, which the message names. Run again: it recovers what it can.",
    ),
    "undo_failed": (
        "A change failed, and taking it back failed too.",
        "The message says what is where. Restore the file from the journal or the backup, then run ``drift``.",
    ),
    "change_failed": ("A service or application pool could not be changed and is as before.", "Read the message."),
    "state_changed": ("Something else changed the service or pool just now.", "Run again."),
    "state_unreachable": ("The service or pool is gone.", "Look at the server."),
    "state_not_reached": ("The service or pool did not get to the wanted state in time; it was put back.", "Look at the server's event log."),
    "state_not_read": ("The state of a service or pool could not be read.", "Look whether it exists, and at the rights of the account."),
    "health_failed": (
        "A path answered before the change and does not after it; the change is taken back.",
        "Look at the path in the result, then at the mitigation's side effects.",
    ),
    "host_locked": ("Another run on this controller is changing the same server.", "Wait for its end."),
    "journal_unusable": (
        "The journal cannot be written or read; nothing is changed without it.",
        "See to ``journal_dir``: it must exist, be yours, and have space.",
    ),
    "journal_of_another": (
        "What the journal knows of this host happened on a computer of another name.",
        "Mend the inventory's address, or move the journal files of this host away if it is another server from now on.",
    ),
    "journal_damaged": ("A journal file holds a line that is no record.", "Move that file away; the server can still be undone with ``state: absent``."),
}

SERVICES: Rows = {
    "service_missing": ("The server has no such service.", "Leave it out, or check the build."),
    "service_disabled": ("The service is disabled.", "Set ``start_mode`` as well."),
    "service_timeout": ("The service did not get to the wanted state in time.", "Look at the event log; raise ``timeout``."),
    "service_refused": ("Windows did not take the request.", "Run again in a minute; the message has Windows' answer."),
    "service_broken": (
        "Windows cannot start the service: its program is missing, its account cannot log on, or it is marked for deletion.",
        "Repair it; restart the server for the last.",
    ),
    "dependency_down": ("A service that it needs does not run.", "Start that first; the message names it."),
    "dependents_running": ("Services that need it are running.", "Stop those first."),
    "start_mode_failed": ("The start mode could not be set.", "Look at rights and group policy."),
}

URL_REWRITE: Rows = {
    "source_needed": ("Something has to be installed, and no package is named.", "Give ``source``."),
    "source_unreadable": ("The package cannot be read where ``source`` says.", "Check the path, the share's rights for the computer account, or the URL."),
    "package_mismatch": ("The package has another SHA-256 than ``sha256``; it was not run.", "Fetch it again, or correct the hash."),
    "package_unreadable": ("Windows Installer cannot open the package, or misses the original one.", "Fetch it again, and name it in ``source``."),
    "package_unsuitable": ("The package is for other machines.", "Take the full package for x64."),
    "signature_invalid": ("Windows does not find a valid signature on the package; it was not run.", "Fetch it from Microsoft again."),
    "folder_unsafe": ("A fresh folder on the server could be written by others, so nothing was put there.", "Restore the permissions of the Windows folder."),
    "endpoint_restricted": (
        "The session configuration does not offer what an installation needs.",
        "Use the default endpoint with a local administrator, not JEA.",
    ),
    "unsupported_os": ("The server runs something older than Windows Server 2012.", "Update it."),
    "iis_missing": ("There is no IIS, or one older than 7.", "Install the role Web-Server."),
    "ucrt_missing": ("Windows Server 2012 or 2012 R2 without the Universal C Runtime.", "Install KB2999226 first."),
    "installer_busy": ("Another installation runs.", "Run again when it is done, or raise ``busy_timeout``."),
    "installer_unavailable": ("Windows Installer cannot be reached.", "Look at the service msiserver."),
    "install_failed": ("The installation failed.", "The message has the reason from its log."),
    "install_forbidden": ("A policy forbids the installation.", "Allow it in the policies for Windows Installer and software restriction."),
    "install_interrupted": ("The connection broke, and the installation did not come to its end.", "Run again."),
    "another_version": ("Another version is installed.", "Remove it with ``state: absent`` first."),
    "not_effective": ("The installation succeeded, and the server is still not as wanted.", "Look whether the package brings the wanted version."),
    "product_unknown": ("It is unknown which product to remove.", "Give ``product_code`` as the Uninstall key shows it."),
    "state_unknown": ("It is unknown what is installed or used; nothing was changed.", "The message says what could not be read."),
    "rules_in_use": ("Rules would be left without their module, and their sites would answer 500.19.", "Remove the rules first, or set ``ignore_rules``."),
    "reboot_timeout": ("The server did not come back, or did not restart, in time.", "Look at its console; raise ``reboot_timeout``."),
}

OPTIONS: Rows = {
    "invalid_combination": ("Options contradict each other.", "The message names them."),
    "invalid_run_id": ("A run's name cannot stand as a folder's name.", "Letters, digits, dot, dash and underscore, at most 100."),
    "invalid_build": ("A text is no build of Exchange.", "Such as ``15.2.2562.45``."),
    "invalid_state": ("The state is none that can be planned.", "``applied``, ``absent`` or ``retired``."),
    "mitigations_required": ("``state: absent`` without ids.", "Name them, or the run to undo."),
    "all_refused": ("``all`` with ``state: absent``.", "Name the ids: nobody should remove everything by accident."),
    "feed_required": ("``all`` means the feed's, and there is no feed.", "Give ``feed``, or name the ids."),
    "insecure_connection": ("Basic authentication over http would send the password in the clear.", "``exchange_scheme: https``."),
    "credentials_missing": ("A way to authenticate that needs user and password, without them.", "Set both."),
    "exchange_host_missing": ("It is not said which Exchange server to ask.", "Set ``exchange_host``, or run the task on a server."),
    "connection_unsupported": ("The task does not run over winrm or psrp.", "Set ``ansible_connection`` for the server; do not delegate the task."),
    "async_unsupported": (
        "``async`` with ``poll: 0``: the module works on the controller and not in the background.",
        "Use ``poll`` above 0, or ``timeout`` of the task.",
    ),
    "async_timeout": ("The task did not finish within ``async``.", "Run again; give it more time."),
    "action_plugin_missing": (
        "The module was sent to the host instead of being run on the controller.",
        "Call it by its full name ``exchange.mitigation.NAME``; repair the installation.",
    ),
    "needs_action_plugin": ("As above, for the modules that contact no server.", "As above."),
    "unexpected_error": ("The collection met something that nobody foresaw.", "Please report it, with the output of ``-vvv``."),
    "not_observed": ("In the report: the run stopped for this server before it was looked at.", "Look at the output of the run."),
    "invalid_serial": ("A batch is no number and no percentage.", 'Such as ``[1, 5, "20%"]``.'),
    "invalid_approval": ("The approval of a step cannot be read.", "See the guide on the rollout."),
    "invalid_number": ("A number is out of its range.", "Read the message."),
    "invalid_window": ("A maintenance window cannot be read.", "See the guide on the rollout."),
}

SIGNING: Rows = {
    "description_malformed": ("The description is not YAML, or lacks or has something that the profile does not know.", "The message names the place."),
    "key_unreadable": ("The key is no PEM file, or the passphrase is wrong.", "Check both."),
    "output_exists": ("The output file is there and is no mitigation document.", "Choose another name."),
    "output_unwritable": ("The output file cannot be written.", "Check the folder."),
    "version_not_raised": ("The version is not higher than that of the file to be replaced.", "Raise it; controllers refuse one that does not rise."),
}

NOTICE: Rows = {
    "mail_connect": ("The mail server does not resolve or does not accept the connection.", "Check host, port and firewall."),
    "mail_timeout": ("The mail server did not finish in time.", "Try again; raise ``timeout``."),
    "mail_tls": ("The mail server's TLS is not trusted or fails.", "Set ``ca_path``; check encryption and port."),
    "mail_tls_missing": ("The mail server does not offer STARTTLS; nothing was sent.", "Use encryption ``tls``, or mend the server."),
    "mail_auth": ("The mail server refuses user and password, or offers no method that fits.", "Check both."),
    "mail_sender": ("The mail server refuses the sender.", "Use an address it relays for."),
    "mail_recipients": ("The mail server refuses every recipient.", "Check the addresses and the relay."),
    "mail_refused": ("The mail server refuses the mail, or breaks off.", "The message has its code."),
    "webhook_connect": ("The webhook's host does not resolve or does not accept the connection.", "Check name, proxy and firewall."),
    "webhook_timeout": ("The webhook did not answer in time.", "Try again; raise ``timeout``."),
    "webhook_tls": ("The webhook's TLS is not trusted or fails.", "Set ``ca_path``."),
    "webhook_proxy": ("The proxy does not lead to the webhook.", "Check ``proxy``."),
    "webhook_status": ("The webhook answers with an error.", "Check its URL at the receiver: it may have been withdrawn."),
    "webhook_broken": ("The connection to the webhook broke off.", "Try again."),
}

#: The areas in the order of the guide.
AREAS: Mapping[str, Rows] = {
    "The way to the server": REACH,
    "Exchange and EM": EXCHANGE,
    "Refused before anything is written": REFUSED,
    "IIS configuration": IIS,
    "A change, and the way back": CHANGE,
    "Services": SERVICES,
    "URL Rewrite": URL_REWRITE,
    "Options and surroundings": OPTIONS,
    "Signing your own documents": SIGNING,
    "Notices": NOTICE,
}
