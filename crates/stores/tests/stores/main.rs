//! One suite for every store, stamped on each: what the port promises, method by method. Beside
//! it stands what only a store in a folder can get wrong.

#![expect(clippy::unwrap_used, reason = "the suite's helpers are tests as well")]

mod care;
mod child;
mod commits;
mod disappear;
mod fixture;
mod guards;
mod keys;
mod listeners;
mod people;
#[cfg(feature = "postgres")]
#[path = "../../../turnkeep/tests/port_kit/mod.rs"]
mod port_kit;
#[cfg(feature = "postgres")]
mod postgres_behind;
#[cfg(feature = "postgres")]
mod postgres_care;
#[cfg(feature = "postgres")]
mod postgres_connections;
#[cfg(feature = "postgres")]
mod postgres_doors;
#[cfg(feature = "postgres")]
mod postgres_faults;
#[cfg(feature = "postgres")]
mod postgres_kit;
#[cfg(feature = "postgres")]
mod postgres_moving;
#[cfg(feature = "postgres")]
mod postgres_nodes;
#[cfg(feature = "postgres")]
mod postgres_order;
#[cfg(feature = "postgres")]
mod postgres_reads;
#[cfg(feature = "postgres")]
mod postgres_schema;
#[cfg(feature = "postgres")]
mod postgres_server;
#[cfg(feature = "postgres")]
mod postgres_stand_in;
#[cfg(feature = "postgres")]
mod postgres_together;
mod reads;
mod restrictions;
mod rows;
mod schedule;
mod sqlite_backup;
mod sqlite_care;
mod sqlite_faults;
mod sqlite_folder;
mod sqlite_reader;
mod switchboard;
mod usage;

use fixture::{MemoryHome, SqliteHome};

/// Runs every test of the suite against a store that is opened in a home of its own.
macro_rules! store_conformance {
    ($($store:ident: $home:ty),*) => {
        $(mod $store {
            use super::*;
            store_conformance!(@tests $home;
                care::a_history_begins_later_from_then_on,
                care::what_waits_to_be_removed_is_read_by_nobody,
                care::a_commit_is_cut_where_it_has_to_be,
                care::dead_letters_go_with_their_places,
                care::what_was_written_meanwhile_is_not_forgotten,
                care::an_erased_session_leaves_no_name,
                care::texts_are_blanked_in_a_history_that_stays,
                care::files_that_are_to_be_cleaned_are_known_until_they_are,
                care::hashes_are_found_wherever_they_are_named,
                care::senders_are_found_wherever_they_wrote,
                care::a_lost_message_is_still_found,
                disappear::a_message_that_disappears_is_known_until_it_is_gone,
                disappear::what_is_forgotten_disappears_no_more,
                commits::a_session_is_there_from_its_first_commit_on,
                commits::a_stale_version_conflicts_and_writes_nothing,
                commits::of_many_with_one_version_one_commits,
                commits::one_bad_commit_does_not_disturb_its_neighbours,
                commits::a_gap_in_the_journal_is_refused,
                commits::a_commit_may_carry_nothing_but_the_state,
                commits::texts_of_any_size_and_script_come_back,
                commits::reopening_keeps_everything_and_draws_a_greater_epoch,
                commits::a_closed_store_takes_no_commits,
                commits::it_counts_what_it_did,
                guards::a_twin_is_told_the_first_decision,
                guards::a_twin_is_known_across_reopening,
                guards::an_expired_twin_is_new,
                guards::of_sixteen_twins_at_once_one_commits,
                guards::a_twin_within_one_commit_is_refused_at_its_place,
                guards::guards_hold_all_together_or_nothing_is_written,
                guards::a_message_with_two_names_is_known_by_each,
                guards::forgotten_keys_are_new_again,
                guards::a_question_is_answered_and_leaves_nothing,
                guards::a_dead_letter_is_taken_once,
                guards::a_dead_letter_belongs_to_its_session,
                guards::a_part_has_to_stand_as_it_was_read,
                guards::of_those_who_read_a_part_alike_one_is_let_through,
                keys::a_key_is_kept_as_it_was_made,
                keys::keys_have_a_limit,
                keys::a_revoked_key_takes_its_visits_along,
                keys::a_key_is_replaced_whole_or_not_at_all,
                keys::only_ended_keys_are_forgotten,
                keys::a_code_is_used_once,
                keys::codes_end_and_have_a_limit,
                keys::a_customer_has_so_many_visits,
                keys::ended_sign_ins_are_forgotten_in_steps,
                listeners::the_journal_has_one_order_over_all_sessions,
                listeners::what_is_forgotten_is_told_to_nobody,
                listeners::a_new_listener_begins_at_the_end,
                listeners::places_and_failures_survive_reopening,
                listeners::callbacks_are_due_in_order_and_settled_one_by_one,
                listeners::dead_callbacks_are_revived_and_discarded,
                listeners::of_too_many_the_oldest_go,
                listeners::a_listener_nobody_configures_is_forgotten,
                people::a_pairing_is_kept_as_it_was_made,
                people::a_pairing_is_taken_once,
                people::who_is_paired_anew_is_known_by_the_new_one,
                people::pairings_end,
                people::pairings_that_wait_end_and_have_a_limit,
                reads::events_are_gapless_in_pages_of_any_size,
                reads::bodies_of_pending_messages_are_filled_in,
                reads::texts_of_the_outbox_are_filled_in,
                reads::open_work_comes_in_order_and_in_pages,
                reads::open_work_names_no_idle_session,
                reads::sessions_come_in_order_of_their_keys,
                reads::a_tenant_sees_its_own_sessions_only,
                restrictions::a_restriction_is_kept_as_it_was_made,
                restrictions::one_restriction_of_a_customer_counts_at_a_time,
                restrictions::restrictions_are_found_by_whom_and_when,
                restrictions::a_restriction_is_lifted_once_and_appealed,
                restrictions::what_counts_of_an_erased_customer_stays,
                restrictions::ended_restrictions_are_forgotten_in_steps,
                rows::a_turn_is_replaced_by_id,
                rows::a_turn_stays_with_its_session,
                rows::replies_of_one_commit_are_told_apart,
                rows::turns_come_newest_first_in_pages,
                rows::a_part_is_replaced_and_keeps_its_text,
                rows::parts_come_in_order_and_in_pages,
                rows::parked_parts_are_found_wherever_they_are,
                rows::dead_letters_come_in_order_and_in_pages,
                schedule::a_job_is_kept_as_it_was_made,
                schedule::jobs_of_a_tenant_have_a_limit,
                schedule::the_configuration_keeps_its_own_jobs,
                schedule::a_tick_is_claimed_once,
                schedule::a_tick_goes_its_way_across_reopening,
                schedule::old_ticks_go,
                schedule::a_job_that_rested_goes_on_from_now,
                schedule::a_reminder_is_forgotten_once_it_is_told,
                schedule::a_reminder_that_was_not_told_stays,
                schedule::what_was_left_out_may_be_run_after_all,
                schedule::the_last_ending_is_found_behind_what_was_left_out,
                schedule::what_passed_while_the_file_let_it_rest_is_over,
                switchboard::a_board_comes_back_as_it_was_written,
                switchboard::tenants_have_boards_of_their_own,
                switchboard::a_number_and_a_name_are_one_sessions,
                switchboard::names_pass_on_within_one_change,
                switchboard::who_leaves_is_watched_by_nobody,
                switchboard::numbers_are_not_given_twice,
                switchboard::a_seat_is_forgotten,
                switchboard::an_erased_session_leaves_the_board,
                switchboard::a_closed_store_writes_no_board,
                usage::what_is_used_is_summed_up_by_whatever_is_asked,
                usage::sums_are_of_days_and_of_whom_is_asked_for,
                usage::a_turn_knows_what_it_used_until_it_is_forgotten,
                usage::who_is_erased_leaves_sums_without_a_name,
                usage::old_days_are_put_together_and_nothing_is_lost,
                usage::models_that_are_made_up_are_bounded,
                usage::a_commit_that_does_not_happen_counts_nothing,
                usage::sums_that_are_too_large_stop_at_the_largest,
            );
        })*
    };
    (@tests $home:ty; $($suite:ident::$test:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            $suite::$test(&<$home>::default()).await;
        })*
    };
}

store_conformance!(memory: MemoryHome, sqlite: SqliteHome);
#[cfg(feature = "postgres")]
store_conformance!(postgres: postgres_kit::PgHome);
