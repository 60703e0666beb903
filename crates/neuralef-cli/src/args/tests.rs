//! What the arguments promise as a whole.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory as _};

use super::Arguments;

/// The ids of the arguments that conflict with `option` of `command`, and those of all others that
/// are not in `apart`.
fn conflicts_and_others(
    command: &str,
    option: &str,
    apart: &[&str],
) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut all = Arguments::command();
    all.build();
    let command: &Command = all.find_subcommand(command).unwrap();
    let find = |id: &str| command.get_arguments().find(|a| a.get_id() == id).unwrap();
    let conflicts = command.get_arg_conflicts_with(find(option));
    let conflicts = conflicts.into_iter().map(|a| a.get_id().to_string()).collect();
    // An argument that is gone must not stay among those that are apart.
    let apart: BTreeSet<&str> = apart.iter().map(|id| find(id).get_id().as_str()).collect();
    let others = command.get_arguments().map(|a| a.get_id().to_string());
    (conflicts, others.filter(|id| id != option && !apart.contains(id.as_str())).collect())
}

#[test]
fn every_setting_of_a_fit_conflicts_with_resume() {
    // What a resumed run may have other than the checkpoint: files to write, and how it is shown.
    let apart = ["output", "plot", "checkpoint", "checkpoint_every", "progress"];
    let general = ["json", "threads", "help", "version"];
    let (conflicts, settings) =
        conflicts_and_others("fit", "resume", &[&apart[..], &general].concat());
    assert_eq!(conflicts, settings);
    assert!(settings.len() > 20 && settings.contains("tolerance"), "{settings:?}");
}

#[test]
fn every_option_of_a_training_conflicts_with_states() {
    let (conflicts, _) = conflicts_and_others("trajectory", "states", &[]);
    for option in ["optimizer", "tail_steps", "augment", "swag_samples", "rank"] {
        assert!(conflicts.contains(option), "{option}: {conflicts:?}");
    }
    assert!(!conflicts.contains("outputs") && !conflicts.contains("n_components"));
}

#[test]
fn arguments_are_consistent() {
    Arguments::command().debug_assert();
}
