# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tests meet which fault of the server or of the controller; a test looks that every one of them is there."""

from __future__ import annotations

_HERE = "system/test_host_faults.py"
_APPLY = "system/test_mitigation_apply.py"
_FAULTS = "system/test_mitigation_faults.py"
_MAIN = "system/test_mitigation.py"
_STATES = "system/test_mitigation_states.py"
_SERVICE = "system/test_service.py"
_UNIT = "unit/plugins/module_utils"
_CONTROLLER = "system/test_controller_faults.py"

HOST_FAULTS: dict[str, tuple[str, ...]] = {
    "disk full": (f"{_MAIN}::test_a_full_disk_fails_and_leaves_nothing", f"{_FAULTS}::test_fault_at_every_step"),
    "access denied": (f"{_HERE}::test_access_is_denied",),
    "locked file": (f"{_MAIN}::test_a_locked_file_fails_and_stays", f"{_FAULTS}::test_fault_at_every_step"),
    "file changed between read and write": (
        f"{_FAULTS}::test_a_file_changed_underneath_is_read_and_planned_again_once",
        f"{_FAULTS}::test_a_file_that_never_stands_still_fails_and_keeps_what_others_wrote",
        f"{_APPLY}::test_what_others_write_right_after_the_replace_is_kept",
    ),
    "sharing violation, bounded retry": (f"{_HERE}::test_a_file_in_use_is_tried_again_a_few_times",),
    "error 1177 with only the backup left": (f"{_FAULTS}::test_the_named_window_with_only_the_backup_left_is_repaired",),
    "IIS refuses": (f"{_FAULTS}::test_a_refusal_by_iis_puts_both_files_back", "system/test_mitigation_host_file.py::test_what_iis_refuses_is_taken_back"),
    "applicationHost.config half-written": (f"{_APPLY}::test_a_half_written_application_host_is_unknown_and_nothing_is_written",),
    "service hangs in StopPending": (
        f"{_SERVICE}::test_a_service_that_hangs_is_not_waited_for_for_ever",
        f"{_STATES}::test_a_service_that_does_not_stop_is_started_again",
        f"{_APPLY}::test_a_service_that_neither_stops_nor_comes_back_is_said",
    ),
    "module or snap-in missing": (f"{_HERE}::test_the_iis_cmdlets_are_missing", "system/test_exchange_access.py::test_no_snapin"),
    "language other than English": (
        f"{_HERE}::test_a_server_in_another_language",
        f"{_SERVICE}::test_the_name_shown_in_another_language_is_of_no_account",
        "system/test_event_info.py::test_texts_stay_in_the_language_of_the_server",
        "system/url_rewrite/test_url_rewrite_failures.py::test_every_failure_says_what_and_why",
    ),
    "very long paths": (f"{_HERE}::test_a_path_that_leaves_no_room_for_the_files_beside_it",),
    "host in maintenance mode": (f"{_HERE}::test_a_server_in_maintenance",),
    "constrained language": (
        f"{_MAIN}::test_constrained_language_takes_the_other_way_and_ends_the_same",
        f"{_SERVICE}::test_constrained_language_is_enough",
        f"{_FAULTS}::test_fault_at_every_step",
    ),
    "JEA": ("system/test_jea_endpoints.py::test_rules_come_and_go", "system/test_jea_endpoints.py::test_url_rewrite_refuses_by_name"),
    "SIGINT, SIGTERM, SIGKILL of a run": (
        "system/test_rollout_interrupt.py::test_interrupted_and_run_again_ends_as_if_it_had_not_been",
        f"{_FAULTS}::test_fault_at_every_step",
    ),
    "full disk under journal_dir": (f"{_CONTROLLER}::test_the_journal_takes_no_more",),
    "full or read-only disk under state_dir": (f"{_CONTROLLER}::test_the_state_of_the_feed_takes_no_more", f"{_UNIT}/test_state.py::test_full_disk"),
    "files of the controller's process limited in size": (
        "system/test_controller_limits.py::test_a_record_of_the_journal_is_cut_by_a_limit",
        "system/test_controller_limits.py::test_a_document_is_cut_by_a_limit",
    ),
    "read-only home": (f"{_CONTROLLER}::test_a_home_that_is_read_only",),
    "two runs in parallel": (
        f"{_MAIN}::test_a_second_controller_process_on_the_same_server_is_refused",
        f"{_UNIT}/test_journal.py::test_a_second_run_on_the_same_host_refuses_and_another_host_does_not",
        f"{_UNIT}/test_state.py::test_parallel_runs",
        f"{_UNIT}/test_state.py::test_lock_is_waited_for_but_not_for_ever",
    ),
    "journal tampered with": (f"{_APPLY}::test_a_journal_that_was_tampered_with_is_refused", f"{_CONTROLLER}::test_a_journal_that_is_not_ours_alone"),
    "corrupted high-water mark": (f"{_UNIT}/test_state.py::test_damaged_file_is_no_first_use",),
    "different user": (
        f"{_CONTROLLER}::test_a_journal_that_is_not_ours_alone",
        f"{_UNIT}/test_state.py::test_directory_of_another_user",
        f"{_UNIT}/test_state.py::test_writable_by_others",
    ),
}
