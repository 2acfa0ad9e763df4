//! Owns the proofs: what is run for each row of `docs/faults.md`.

use crate::measured::Measured;
use crate::scenarios::{inbox, load, path, process};

/// A test of another target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    pub(crate) package: &'static str,
    /// The words that choose the target, as cargo takes them.
    pub(crate) target: &'static [&'static str],
    pub(crate) name: &'static str,
}

/// One proof of a row.
pub(crate) enum Proof {
    /// A scenario of this program.
    Here(fn() -> Measured),
    /// Real processes for as long as the command line says.
    Churn,
    /// A test elsewhere.
    Elsewhere(Test),
}

impl Proof {
    /// The test elsewhere, if it is one.
    pub(crate) const fn test(&self) -> Option<Test> {
        if let Self::Elsewhere(test) = self { Some(*test) } else { None }
    }
}

const fn lib(package: &'static str, name: &'static str) -> Proof {
    Proof::Elsewhere(Test { package, target: &["--lib"], name })
}

/// A test of one of this project's integration tests.
macro_rules! test {
    ($package:literal, $target:literal, $name:literal) => {
        Proof::Elsewhere(Test { package: $package, target: &["--test", $target], name: $name })
    };
}

/// The proofs of a row; none for a row that has no proof yet.
pub(crate) fn proofs(name: &str) -> &'static [Proof] {
    ROWS.iter().find(|(own, _)| *own == name).map_or(&[], |(_, proofs)| proofs)
}

/// Every row with its proofs.
pub(crate) const ROWS: &[(&str, &[Proof])] = &[
    ("loss", &[Proof::Here(path::loss)]),
    (
        "reorder",
        &[
            Proof::Here(path::reorder),
            test!("pilot-tests", "simulation", "reordering_duplication_and_bit_flips_harm_nothing"),
        ],
    ),
    ("nat", &[Proof::Here(path::nat), test!("pilotctl", "roam", "an_idle_node_whose_machine_moves_is_found_at_once")]),
    ("restart", &[Proof::Here(process::restart)]),
    (
        "kill-inbox",
        &[
            Proof::Here(inbox::kills),
            test!("pilotctl", "session", "kills_at_random_moments_lose_and_double_no_message"),
            test!("pilotctl", "session", "what_was_acknowledged_survives_kill_minus_nine_of_the_receiver"),
        ],
    ),
    (
        "power",
        &[
            lib("pilot-node", "disk::tests::power::no_power_cut_or_failure_loses_what_was_confirmed_or_shows_it_twice"),
            test!("pilot-tests", "power", "approval_survives_a_power_cut_at_every_moment"),
            lib("pilot-rendezvous", "store::tests::no_power_cut_or_failure_takes_back_what_was_answered"),
            test!("pilot-tests", "power", "the_first_session_of_a_pair_survives_a_power_cut_at_every_moment"),
        ],
    ),
    (
        "rendezvous-away",
        &[
            Proof::Here(process::rendezvous_away),
            test!("pilotctl", "session", "friends_need_no_rendezvous_and_daemons_start_without_one"),
        ],
    ),
    (
        "clock",
        &[
            Proof::Here(process::clock),
            lib(
                "pilot-core",
                "trust::tests::ends::a_request_is_too_old_when_no_clock_says_otherwise_and_never_too_new",
            ),
            lib(
                "pilot-core",
                "endpoint::directory::tests::ends::an_old_sequence_is_raised_above_the_one_that_the_refusal_names_and_clocks_are_compared",
            ),
            lib("pilot-node", "calls::tests::ends_have_bounds_and_a_clock_that_is_set_counts_at_once"),
            lib("pilot-node", "mail::counted::tests::pauses_count_up_to_a_day_and_never_backwards"),
            test!("pilot-tests", "clocks", "a_clock_that_is_an_hour_back_after_a_restart_keeps_nobody_away"),
            test!("pilot-tests", "clocks", "a_boot_in_1970_is_told_and_over_when_the_clock_is_right_again"),
        ],
    ),
    (
        "disk-full",
        &[
            lib("pilot-node", "event_loop::rooms::tests::a_failed_disk_fails_the_call_and_sends_nothing"),
            lib("pilot-node", "disk::files::tests::a_full_disk_is_told_as_such"),
            lib(
                "pilot-node",
                "disk::tests::a_full_disk_takes_changes_of_trust_and_an_inbox_that_is_emptied_makes_room",
            ),
            test!("pilot-ffi", "misuse", "few_descriptors_and_a_full_disk_are_survived"),
        ],
    ),
    (
        "descriptors",
        &[
            test!("pilot-ffi", "misuse", "few_descriptors_and_a_full_disk_are_survived"),
            test!("pilot-node", "descriptors", "without_descriptors_accepting_waits_and_spins_not"),
            test!("pilotctl", "machine", "a_client_that_came_when_no_descriptor_was_left_is_served_later"),
        ],
    ),
    (
        "garbage",
        &[
            Proof::Here(load::garbage),
            test!("pilot-node", "log", "a_flood_of_strangers_neither_fills_the_log_nor_hides_others"),
        ],
    ),
    (
        "init-flood",
        &[
            lib("pilot-core", "endpoint::tests::flood::a_trusted_peer_reaches_a_node_under_a_flood_of_key_handshakes"),
            lib(
                "pilot-core",
                "endpoint::tests::flood::a_known_node_reaches_a_rendezvous_under_a_flood_of_key_handshakes",
            ),
            lib("pilot-core", "endpoint::tests::flood::key_handshakes_that_are_never_finished_have_a_maximum"),
            test!(
                "pilot-tests",
                "strangers",
                "a_known_node_is_served_in_two_seconds_under_twenty_thousand_datagrams_in_a_second"
            ),
        ],
    ),
    (
        "replay",
        &[Proof::Here(load::replay), lib("pilot-core", "endpoint::tests::replaying_a_whole_capture_has_no_effect")],
    ),
    ("stopped-reader", &[Proof::Here(load::stopped_reader)]),
    ("streams", &[Proof::Here(load::streams)]),
    ("restarts", &[Proof::Here(process::restarts)]),
    (
        "malicious",
        &[
            test!("pilot-fuzz", "smoke", "segments_of_a_hostile_peer_break_nothing"),
            lib("pilot-core", "endpoint::tests::a_forged_datagram_with_a_huge_counter_changes_nothing"),
            lib(
                "pilot-node",
                "event_loop::rooms::tests::hostile::a_peer_with_every_grant_and_bad_intentions_costs_the_others_a_tenth_at_most",
            ),
        ],
    ),
    (
        "one-home",
        &[
            test!("pilotctl", "bad_input", "one_home_takes_one_daemon_and_a_damaged_identity_is_never_replaced"),
            lib("pilot-store", "tests::a_folder_takes_one_process"),
        ],
    ),
    (
        "worlds",
        &[
            test!("pilot-tests", "chaos", "whatever_happens_readers_get_a_prefix_and_everything_works_again"),
            test!("pilot-fuzz", "smoke", "a_world_works_again_once_its_faults_are_over"),
        ],
    ),
    ("churn", &[Proof::Churn]),
    (
        "S1",
        &[
            lib("pilot-core", "endpoint::tests::strangers::a_broken_control_stream_ends_the_tunnel"),
            lib(
                "pilot-core",
                "endpoint::tests::strangers::strangers_hold_no_more_than_their_pool_however_many_they_are",
            ),
            lib("pilot-core", "endpoint::hoard::tests::the_pool_has_a_maximum_and_the_longest_holder_gives_way"),
            lib("pilot-core", "link::control::tests::pieces_beyond_the_window_and_impossible_lengths_break_the_stream"),
            lib("pilot-core", "link::control::tests::overlapping_pieces_are_held_once"),
            lib("pilot-core", "link::control::tests::what_is_held_has_a_maximum_in_bytes_and_in_pieces"),
            test!("pilot-fuzz", "smoke", "a_control_stream_is_whole_or_broken_and_holds_little"),
            lib("pilot-core", "endpoint::tests::strangers::a_control_stream_of_any_length_costs_a_window"),
        ],
    ),
    (
        "S2",
        &[
            lib("pilot-core", "path::tests::an_address_that_has_not_answered_costs_its_owner_little"),
            lib(
                "pilot-core",
                "path::tests::a_resp_from_an_address_that_never_answered_opens_it_for_three_times_its_size",
            ),
            lib("pilot-core", "path::tests::keys_that_are_used_prove_where_their_resp_went_and_nothing_else"),
            lib("pilot-core", "path::tests::a_moved_peer_is_followed_only_after_a_probe_round_trip"),
            lib(
                "pilot-core",
                "endpoint::tests::strangers::no_input_makes_an_address_that_has_not_answered_get_more_than_three_times_its_bytes",
            ),
        ],
    ),
    ("S3", &[lib("pilot-core", "endpoint::tests::memory::a_copy_of_the_memory_opens_no_session_that_is_over")]),
    (
        "S4",
        &[
            lib(
                "pilot-core",
                "endpoint::tests::flood::a_known_node_reaches_a_rendezvous_under_a_flood_of_key_handshakes",
            ),
            lib("pilot-core", "endpoint::tests::flood::a_trusted_peer_reaches_a_node_under_a_flood_of_key_handshakes"),
            lib("pilot-core", "tunnel::bucket::tests::a_source_has_its_burst_and_its_rate"),
            lib("pilot-core", "tunnel::bucket::tests::the_table_has_a_maximum_and_is_freed_again"),
            lib("pilot-core", "peer::sessions::tests::a_cookie_says_when_the_next_init_leaves"),
            test!(
                "pilot-tests",
                "strangers",
                "a_known_node_is_served_in_two_seconds_under_twenty_thousand_datagrams_in_a_second"
            ),
        ],
    ),
    (
        "S5",
        &[
            lib("pilot-core", "endpoint::directory::tests::ends::an_answer_about_another_node_is_none"),
            lib("pilot-node", "calls::tests::a_node_that_is_named_by_its_whole_key_is_verified"),
        ],
    ),
    (
        "S6",
        &[
            lib("pilot-core", "trust::tests::strangers::the_oldest_request_that_no_owner_has_seen_gives_way"),
            lib("pilot-core", "trust::tests::strangers::one_source_takes_sixteen_places_and_crowds_out_only_itself"),
            lib("pilot-core", "trust::tests::strangers::no_flood_touches_peers_or_those_that_were_asked"),
        ],
    ),
    (
        "S7",
        &[
            lib("pilot-rendezvous", "machine::tests::every_table_has_a_maximum_and_comes_back_to_zero"),
            lib("pilot-rendezvous", "state::tests::every_table_has_a_maximum_and_comes_back_to_zero"),
            lib("pilot-rendezvous", "state::tests::mailboxes_have_a_maximum_per_sender_for_strangers_and_in_all"),
            lib("pilot-rendezvous", "state::tests::a_name_is_free_once_its_owner_was_not_seen_for_thirty_days"),
            lib("pilot-rendezvous", "state::tests::grants_change_by_differences_and_have_maxima"),
        ],
    ),
    (
        "S8",
        &[
            lib(
                "pilot-stack",
                "stack::tests::memory::unread_streams_of_a_peer_hold_no_more_than_its_budget_and_lose_nothing",
            ),
            lib("pilot-stack", "stack::tests::memory::a_peer_without_budget_gets_no_streams_until_some_end"),
            lib("pilot-stack", "stack::tests::memory::one_stream_that_is_read_goes_on_while_others_hold_the_budget"),
            lib(
                "pilot-node",
                "services::tests::unfinished_text_and_frames_are_bounded_for_a_peer_and_the_peer_learns_why",
            ),
            lib("pilot-node", "services::tests::a_stream_gives_its_service_a_slice_in_a_round"),
            lib("pilot-node", "disk::files::tests::files_that_arrive_have_maxima_and_idle_ones_give_way"),
            lib("pilot-node", "disk::files::tests::a_transfer_goes_on_without_reading_what_has_arrived"),
            lib("pilot-node", "disk::files::tests::files_and_parts_of_a_sender_have_a_quota"),
            test!("pilotctl", "grants", "quotas_are_set_shown_and_survive_a_restart"),
            lib(
                "pilot-node",
                "event_loop::rooms::tests::hostile::a_peer_with_every_grant_and_bad_intentions_costs_the_others_a_tenth_at_most",
            ),
            lib(
                "pilot-node",
                "services::lanes::tests::jobs_and_bytes_of_a_peer_have_maxima_and_every_lane_walks_back_to_nothing",
            ),
            lib(
                "pilot-stack",
                "stack::tests::memory::a_stream_that_is_given_up_before_it_stands_leaves_the_budget_at_once",
            ),
            lib("pilot-node", "event_loop::rooms::tests::disconnect::a_stream_of_a_service_leaves_nothing_behind"),
        ],
    ),
    (
        "S9",
        &[
            test!("pilotctl", "machine", "nothing_is_said_to_another_users_socket"),
            lib("pilot-node", "ipc::place::tests::a_folder_for_one_user_is_of_that_user_alone"),
        ],
    ),
    (
        "S10",
        &[
            test!("pilotctl", "machine", "what_peers_write_cannot_act_on_a_terminal"),
            lib("pilotctl", "clean::tests::what_acts_on_a_terminal_or_hides_is_shown_as_an_escape"),
            lib("pilotctl", "clean::tests::json_stays_the_same_value"),
            lib("pilot-node", "log::format::tests::no_value_breaks_a_line_or_reaches_a_terminal"),
            lib("pilot-core", "trust::tests::strangers::notes_of_strangers_are_safe_for_terminals"),
            lib(
                "pilot-node",
                "disk::file_name::tests::a_name_is_one_component_that_every_file_system_and_terminal_can_bear",
            ),
        ],
    ),
    (
        "S11",
        &[
            lib("pilot-core", "path::tests::probes_to_addresses_that_never_answered_have_a_maximum"),
            lib("pilot-core", "path::tests::all_peers_together_probe_within_the_budget_of_the_node"),
            lib("pilot-core", "path::candidate::tests::harmful_candidates_are_refused"),
            lib("pilot-core", "path::candidate::tests::near_addresses_are_for_nodes_that_are_near"),
        ],
    ),
    (
        "S12",
        &[
            lib("pilot-node", "frame_reader::tests::many_short_frames_that_arrive_at_once_are_not_moved_one_by_one"),
            lib("pilot-node", "ipc::server::tests::a_client_with_many_requests_waits_for_the_others_and_none_is_lost"),
            lib("pilot-node", "ipc::server::tests::another_client_waits_for_one_share_of_megabytes_of_tiny_frames"),
            test!("pilotctl", "bad_input", "megabytes_of_tiny_frames_are_linear_work_and_other_clients_are_served"),
            test!("pilot-fuzz", "smoke", "what_local_programs_say_is_read_alike_in_any_pieces"),
        ],
    ),
    (
        "S13",
        &[
            lib(
                "pilot-core",
                "trust::tests::renewals::an_accept_from_before_a_revocation_is_void_also_for_a_node_that_has_no_pin",
            ),
            lib(
                "pilot-core",
                "trust::tests::strangers::epochs_of_former_peers_are_kept_up_to_a_maximum_and_the_oldest_goes",
            ),
            lib("pilot-core", "trust::tests::ends::trust_ends_at_its_second_on_both_sides_and_both_tell"),
            lib(
                "pilot-core",
                "trust::tests::renewals::a_request_that_was_taken_back_leaves_nothing_in_whatever_order_it_arrives",
            ),
            lib("pilot-node", "calls::tests::a_request_is_taken_back_once"),
        ],
    ),
    (
        "S14",
        &[
            lib("pilot-core", "endpoint::tests::kem::recorded_sessions_stay_shut_without_the_kem_secret"),
            lib("pilot-core", "endpoint::tests::kem::data_waits_for_the_disk_of_the_side_that_answers"),
        ],
    ),
    (
        "S15",
        &[
            lib("pilot-core", "endpoint::tests::kem::recorded_sessions_stay_shut_without_the_kem_secret"),
            lib("pilot-core", "tunnel::kem::tests::the_key_of_the_published_seed_is_the_published_one"),
            lib("pilot-core", "tunnel::kem::tests::both_sides_make_the_same_and_nothing_else_does"),
            lib("pilot-core", "endpoint::tests::kem::a_lost_or_another_secret_is_made_anew"),
        ],
    ),
    (
        "T1",
        &[
            lib(
                "pilot-core",
                "endpoint::directory::tests::ends::an_old_sequence_is_raised_above_the_one_that_the_refusal_names_and_clocks_are_compared",
            ),
            lib(
                "pilot-core",
                "trust::tests::ends::a_request_is_too_old_when_no_clock_says_otherwise_and_never_too_new",
            ),
            lib("pilot-core", "trust::tests::ends::a_revocation_is_never_too_old"),
            lib("pilot-core", "trust::tests::ends::ends_are_told_by_the_common_clock"),
            lib("pilot-node", "log::clock_watch::tests::steps_are_seen_and_a_slow_drift_is_not"),
            test!("pilot-tests", "clocks", "a_clock_that_is_an_hour_back_after_a_restart_keeps_nobody_away"),
            test!("pilot-tests", "clocks", "a_boot_in_1970_is_told_and_over_when_the_clock_is_right_again"),
            test!("pilot-tests", "clocks", "a_first_request_arrives_whatever_the_clocks_say"),
            lib("pilot-node", "calls::tests::a_clock_that_is_not_the_rendezvous_is_told_where_a_look_up_ends"),
            lib("pilot-rendezvous", "machine::tests::a_wrong_clock_of_one_start_ages_nothing_by_more_than_a_day"),
        ],
    ),
    (
        "T2",
        &[
            lib(
                "pilot-node",
                "underlay::rendezvous::tests::addresses_that_do_not_answer_are_left_for_the_next_for_ever",
            ),
            lib(
                "pilot-node",
                "underlay::rendezvous::tests::a_name_is_looked_up_beside_the_loop_and_again_until_it_is_known",
            ),
            lib("pilot-node", "underlay::resolver::tests::families_take_turns"),
            lib("pilot-node", "underlay::rendezvous::tests::a_rendezvous_whose_name_gets_another_address_is_followed"),
        ],
    ),
    (
        "T3",
        &[
            test!("pilotctl", "ipv6", "machines_with_ipv6_alone_reach_each_other_by_default"),
            test!("pilotctl", "ipv6", "an_ipv6_network_that_translates_leads_to_an_ipv4_rendezvous"),
            lib(
                "pilot-node",
                "underlay::udp::tests::a_socket_of_both_families_hears_and_answers_both_in_their_own_form",
            ),
            lib(
                "pilot-node",
                "underlay::rendezvous::tests::the_first_address_that_answers_is_used_and_the_others_are_asked_a_quarter_of_a_second_apart",
            ),
            lib("pilot-node", "underlay::nat64::tests::the_prefix_is_found_wherever_the_address_stands"),
        ],
    ),
    (
        "T4",
        &[
            test!(
                "pilot-tests",
                "rendezvous",
                "two_processes_with_one_identity_are_both_told_and_the_first_one_recovers"
            ),
            lib(
                "pilot-core",
                "endpoint::directory::tests::ends::a_rendezvous_that_moves_is_followed_in_time_and_a_twin_is_told_of_once",
            ),
        ],
    ),
    (
        "T5",
        &[
            test!("pilot-tests", "rendezvous", "a_node_whose_name_was_taken_stays_on_the_network"),
            lib(
                "pilot-core",
                "endpoint::directory::tests::ends::a_taken_name_is_left_out_told_once_and_asked_for_again",
            ),
        ],
    ),
    (
        "T6",
        &[lib(
            "pilot-core",
            "trust::tests::renewals::a_node_without_the_pin_approves_the_question_and_the_other_owner_its_request",
        )],
    ),
    (
        "T7",
        &[
            lib("pilot-core", "trust::tests::renewals::secrets_that_differ_are_renewed_by_one_approval_on_each_side"),
            lib(
                "pilot-core",
                "endpoint::directory::tests::letters_leave_when_their_change_is_saved_and_are_taken_when_their_effect_is",
            ),
            lib(
                "pilot-core",
                "endpoint::directory::tests::power::whatever_is_cut_owners_trust_with_one_secret_or_can_approve_again",
            ),
            test!("pilot-tests", "power", "approval_survives_a_power_cut_at_every_moment"),
            test!("pilot-tests", "clocks", "a_pair_with_different_secrets_notices_and_is_healed_by_approvals"),
            lib("pilot-core", "endpoint::tests::what_stood_under_a_former_pair_secret_ends_with_the_true_reason"),
        ],
    ),
    (
        "P1",
        &[
            test!("pilot-tests", "ends", "closing_with_unread_bytes_resets_within_a_round_trip"),
            test!("pilot-tests", "ends", "bytes_that_arrive_after_an_orderly_close_reset_their_writer_alone"),
            test!("pilot-tests", "ends", "a_writer_never_pushes_more_than_the_rings_into_a_closed_stream"),
            test!("pilotctl", "ends", "connect_fails_with_the_count_that_was_acknowledged_when_the_reader_goes"),
            test!("pilotctl", "bad_input", "a_peer_killed_in_mid_stream_is_an_error_and_never_a_clean_end"),
        ],
    ),
    (
        "P2",
        &[
            test!("pilotctl", "log", "a_hang_up_opens_the_log_anew_and_readers_follow"),
            test!("pilotctl", "log", "refusals_trust_and_restarts_are_told_with_peer_and_reason"),
            test!("pilotctl", "log", "a_run_with_trouble_can_be_read_in_the_log"),
            lib("pilot-node", "log::limit::tests::strangers_cause_one_line_a_second_from_however_many_addresses"),
            test!("pilotctl", "log", "a_hang_up_applies_settings_that_changed_and_names_those_that_wait"),
        ],
    ),
    (
        "P3",
        &[
            lib(
                "pilot-node",
                "disk::home::tests::only_a_folder_that_is_made_gets_its_mode_and_files_are_closed_to_others",
            ),
            test!("pilotctl", "machine", "a_home_that_others_use_is_left_as_it_is"),
            test!("pilotctl", "machine", "a_volume_of_another_owner_and_a_service_without_a_home_will_do"),
        ],
    ),
    (
        "P4",
        &[
            test!("pilotctl", "machine", "a_client_that_came_when_no_descriptor_was_left_is_served_later"),
            test!("pilotctl", "forward", "the_daemon_has_as_many_descriptors_as_the_system_allows"),
            lib("pilot-node", "disk::home::tests::a_home_is_found_by_the_first_variable_that_helps"),
            lib("pilot-node", "ipc::place::tests::a_long_path_is_bound_and_found"),
            lib("pilot-node", "disk::home::tests::a_file_system_without_locks_is_told_from_a_daemon_that_runs"),
            test!("pilotctl", "machine", "a_daemon_is_stopped_by_its_socket_alone"),
            test!("pilotctl", "machine", "arguments_that_are_no_text_and_pipes_without_a_writer_are_refused"),
            lib("pilot-node", "disk::files::tests::the_same_content_at_once_arrives_twice"),
            lib("pilot-node", "disk::files::tests::without_hard_links_a_name_is_taken_before_its_file_is_there"),
            test!("pilotctl", "machine", "output_that_is_lost_is_a_failure"),
        ],
    ),
    (
        "R1",
        &[
            lib("pilot-node", "mail::post::tests::a_message_that_waits_is_refused_for_now_and_arrives_later"),
            lib("pilot-node", "mail::post::tests::a_message_that_will_never_be_taken_is_given_up"),
            lib("pilot-node", "mail::post::tests::the_reason_for_which_a_message_waits_is_that_of_its_streams_end"),
            lib(
                "pilot-node",
                "mail::post::tests::a_message_is_given_up_after_seven_days_of_counted_time_and_its_owner_is_told",
            ),
        ],
    ),
    (
        "R2",
        &[
            test!("pilot-tests", "rendezvous", "approvals_in_a_loop_are_all_told_whenever_the_rendezvous_is_restarted"),
            test!("pilot-tests", "rendezvous", "a_look_up_is_answered_or_told_when_the_rendezvous_restarts_under_it"),
            test!(
                "pilot-tests",
                "rendezvous",
                "a_full_disk_at_the_rendezvous_is_forgotten_thirty_seconds_after_there_is_room"
            ),
            lib(
                "pilot-core",
                "endpoint::directory::tests::ends::a_refused_registration_is_repeated_and_never_twice_at_once",
            ),
            lib("pilot-core", "endpoint::directory::tests::ends::a_letter_is_posted_again_whatever_the_refusal"),
        ],
    ),
    (
        "R3",
        &[
            test!("pilot-tests", "absence", "what_stands_survives_the_absence_of_either_side"),
            test!("pilot-tests", "absence", "what_stands_on_the_relay_survives_a_rendezvous_that_is_away"),
            test!("pilot-tests", "absence", "the_first_that_is_back_at_the_rendezvous_waits_for_the_other"),
            test!("pilot-tests", "absence", "a_peer_that_vanished_is_told"),
            lib("pilot-core", "endpoint::tests::ages::a_process_that_forgot_its_tunnel_says_since_when"),
        ],
    ),
    (
        "R4",
        &[
            test!("pilot-tests", "ends", "what_was_written_arrives_before_the_reset_at_every_loss_rate"),
            test!("pilotctl", "ends", "a_command_that_is_killed_leaves_a_reset_and_never_half_a_message"),
            test!("pilot-node", "ends", "a_service_that_refuses_resets_and_stores_nothing"),
            lib("pilot-node", "streams::table::tests::a_plain_descriptor_ends_as_a_tcp_socket_does"),
            lib("pilot-node", "streams::table::tests::an_explicit_descriptor_needs_a_word_before_its_end"),
        ],
    ),
    (
        "R5",
        &[
            lib("pilot-store", "tests::a_full_disk_takes_urgent_batches_and_removed_rows_make_room"),
            lib(
                "pilot-node",
                "disk::tests::a_full_disk_takes_changes_of_trust_and_an_inbox_that_is_emptied_makes_room",
            ),
            lib("pilot-node", "disk::files::tests::a_file_that_does_not_fit_is_refused_before_its_first_byte"),
            lib(
                "pilot-node",
                "disk::files::tests::parts_of_broken_transfers_have_maxima_an_age_and_a_line_in_the_list",
            ),
        ],
    ),
    (
        "R6",
        &[
            lib(
                "pilot-node",
                "calls::tests::what_gives_trust_is_undone_when_it_cannot_be_saved_and_what_takes_it_stays",
            ),
            test!(
                "pilot-tests",
                "power",
                "a_revocation_that_its_owner_was_told_of_survives_a_power_cut_at_every_moment"
            ),
        ],
    ),
    (
        "R7",
        &[
            lib(
                "pilot-node",
                "services::tests::unfinished_text_and_frames_are_bounded_for_a_peer_and_the_peer_learns_why",
            ),
            lib(
                "pilot-node",
                "mail::post::tests::answers_to_nothing_and_answers_without_an_end_cost_the_recipient_its_stream",
            ),
            lib("pilot-node", "disk::tests::one_sender_cannot_fill_the_inbox_and_refused_messages_change_nothing"),
            lib("pilot-node", "disk::tests::the_inbox_has_a_maximum_of_messages"),
            lib("pilot-stack", "budget::tests::all_kinds_share_one_pot"),
        ],
    ),
    (
        "R8",
        &[
            test!("pilot-tests", "grants", "grants_with_an_end_reset_streams_at_their_end"),
            lib("pilot-core", "trust::tests::ends::trust_ends_at_its_second_on_both_sides_and_both_tell"),
            lib("pilot-node", "calls::tests::pins_end_with_their_time"),
            lib("pilot-node", "calls::tests::terms_have_the_configured_ports_and_an_end_that_does_not_overflow"),
        ],
    ),
    ("R9", &[]),
    (
        "R10",
        &[
            lib(
                "pilot-node",
                "disk::identity_file::tests::an_identity_with_a_turned_bit_or_missing_is_refused_until_its_owner_accepts_the_loss",
            ),
            lib("pilot-store", "tests::what_decayed_is_an_error_and_never_a_silent_loss"),
            lib("pilot-store", "tests::what_is_left_of_damaged_files_is_salvaged_into_whole_ones"),
            test!("pilotctl", "bad_input", "a_damaged_log_and_one_of_an_earlier_version_are_told_and_never_replaced"),
            test!("pilot-fuzz", "smoke", "books_with_any_rows_accept_and_give_messages"),
        ],
    ),
    (
        "R11",
        &[
            lib("pilot-node", "calls::tests::saves::a_peer_is_found_where_it_was_before_a_power_cut"),
            lib(
                "pilot-node",
                "calls::tests::saves::places_are_looked_at_once_in_a_minute_and_saved_when_they_are_others",
            ),
            test!(
                "pilotctl",
                "rendezvous",
                "without_the_rendezvous_peers_are_found_where_they_were_before_a_power_cut"
            ),
        ],
    ),
    (
        "R12",
        &[
            lib("pilot-rendezvous", "state::tests::a_name_is_free_once_its_owner_was_not_seen_for_thirty_days"),
            test!("pilot-tests", "rendezvous", "a_node_whose_name_was_taken_stays_on_the_network"),
        ],
    ),
    ("R13", &[Proof::Here(path::late), test!("pilot-tests", "link", "datagrams_that_come_late_cost_no_goodput")]),
    (
        "R14",
        &[
            Proof::Here(path::rise),
            test!("pilot-tests", "link", "a_round_trip_that_rises_or_falls_for_good_is_believed_within_two_seconds"),
        ],
    ),
    (
        "R15",
        &[
            lib("pilot-node", "frame_reader::tests::many_short_frames_that_arrive_at_once_are_not_moved_one_by_one"),
            test!("pilotctl", "ends", "listings_of_events_end_when_nobody_reads_them"),
            test!("pilotctl", "machine", "listings_end_with_their_reader_also_when_nothing_comes"),
            test!("pilotctl", "ends", "clearing_the_inbox_takes_what_it_shows"),
            test!("pilotctl", "machine", "a_daemon_that_hangs_is_told_and_ended_by_force"),
            lib("pilot-node", "ipc::server::tests::a_client_with_many_requests_waits_for_the_others_and_none_is_lost"),
            lib("pilot-node", "ipc::server::tests::another_client_waits_for_one_share_of_megabytes_of_tiny_frames"),
        ],
    ),
    (
        "R16",
        &[
            test!("pilot-tests", "simulation", "the_first_stream_of_a_peer_that_was_killed_stands_at_once"),
            test!("pilot-tests", "simulation", "a_stream_to_a_peer_that_was_killed_asks_the_new_process_at_once"),
            test!("pilot-tests", "simulation", "early_data_for_a_process_that_ran_already_is_given_to_it_once"),
        ],
    ),
];
