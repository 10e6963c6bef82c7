//! What is allowed but likely not meant.

use super::{GOOD, parse};
use std::path::Path;

fn warnings(text: &str) -> String {
    parse(text, Path::new("x.toml")).unwrap().warnings.to_string()
}

/// The good file, with nothing to warn of.
fn fine() -> String {
    GOOD.replace("primary =", "log-uri = \"s3://logs/\"\nprimary =")
        .replace("[aws]\n", "[aws]\nassets = \"s3://code/sluicegate/\"\n")
}

#[test]
fn a_careful_file_has_none() {
    assert_eq!(warnings(&fine()), "0 warnings");
}

#[test]
fn each_is_said_with_its_place() {
    for (from, to, said) in [
        (
            "log-uri = \"s3://logs/\"\n",
            "",
            "x.toml:10:11: \"small\" has no log-uri\n    alerts of failed steps",
        ),
        ("5 * * * *", "0 0 30 2 *", "x.toml:28:21: the schedule \"0 0 30 2 *\" never comes"),
        (
            "5 * * * *",
            "* * * * *",
            "x.toml:28:21: the schedule \"* * * * *\" has several slots for one hour\n    a partition runs once",
        ),
        (
            "5 * * * *",
            "0,30 6 1 * *",
            "x.toml:28:21: the schedule \"0,30 6 1 * *\" has several slots",
        ),
        (
            "[datasets.raw]",
            "[datasets.spare]\nlocation = \"s3://b/{yyyy}{MM}{dd}\"\n[datasets.raw]",
            "x.toml:17:11: no task reads or makes the dataset \"spare\"",
        ),
        (
            "[datasets.raw]",
            "[profiles.big]\nrelease-label = \"emr-7.13.0\"\nservice-role = \"s\"\ninstance-profile = \"e\"\n\
             log-uri = \"s3://logs/\"\nprimary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }\n[datasets.raw]",
            "x.toml:17:11: no task uses the profile \"big\"",
        ),
        (
            "[profiles.small]",
            "[profiles.small]\nlifetime = \"30m\"",
            "x.toml:11:12: idle-timeout (1h) is longer than lifetime (30m)",
        ),
        (
            "[profiles.small]",
            "[profiles.small]\nlifetime = \"30m\"\nidle-timeout = \"40m\"",
            "x.toml:12:16: idle-timeout (40m) is longer than lifetime (30m)",
        ),
        (
            "assets = \"s3://code/sluicegate/\"\n",
            "",
            "x.toml:2:14: clusters carry no deadline of their own\n    if no sluicegate is left",
        ),
        (
            "[profiles.small]",
            "[profiles.small]\nguard = false",
            "x.toml:11:9: guard = false: a task partition may run twice\n    if an answer of EMR is lost",
        ),
        (
            "[profiles.small]",
            "[engine]\nvisibility-timeout = \"5s\"\n[profiles.small]",
            "x.toml:11:22: visibility-timeout is 5s: messages may come again",
        ),
        (
            "{ dataset = \"raw\" }",
            "{ dataset = \"raw\", from = \"-500h\" }",
            "x.toml:30:23: the window has 501 partitions",
        ),
        (
            "s3://landing/etl/{yyyy}/{MM}/{dd}/{HH}/",
            "s3://landing/raw/{yyyy}/{MM}/{dd}/{HH}/clean/",
            "x.toml:23:12: objects of \"etl\" also belong to \"raw\"",
        ),
        (
            "s3://landing/etl/{yyyy}/{MM}/{dd}/{HH}/",
            "s3://landing/raw/{yyyy}/{MM}/{dd}/{HH}/*",
            "x.toml:18:12: \"raw\" has the same location as \"etl\"",
        ),
        (
            "when-empty = \"skip\"\ninputs = [{ dataset = \"raw\" }]\noutputs = [\"etl\"]\n\n\
             [[tasks.etl.steps]]\n",
            "attempt-timeout = \"30m\"\ninputs = [{ dataset = \"raw\" }]\noutputs = [\"etl\"]\n\n\
             [[tasks.etl.steps]]\noptions = [\"--deploy-mode\", \"cluster\"]\n",
            "x.toml:34:29: step \"transform\" is tried again after attempt-timeout while what it began",
        ),
    ] {
        let text = fine().replacen(from, to, 1);
        assert_ne!(text, fine(), "{from}");
        let told = warnings(&text);
        assert!(told.contains(&format!("warning: {said}")), "{to}: {told}");
        assert!(told.ends_with("\n1 warning"), "{to}: {told}");
    }
}
