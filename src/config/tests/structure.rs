//! Mistakes of structure: each with its exact place, in our own words, and all
//! of them at once.

use super::{GOOD, mistakes};

/// One change of the good file gives exactly this one mistake.
#[test]
fn each_mistake_of_structure_is_said_with_its_place() {
    for (from, to, said) in [
        // Unknown fields.
        (
            "when-empty = \"skip\"",
            "when-emtpy = \"skip\"",
            "x.toml:27:1: unknown field \"when-emtpy\" in [tasks.etl]\n    did you mean \"when-empty\"?",
        ),
        (
            "script = \"s3",
            "jra = \"s3",
            "x.toml:34:1: unknown field \"jra\" in [tasks.etl.steps]\n    did you mean \"jar\"?",
        ),
        (
            "on-demand = 1",
            "on_demand = 1",
            "x.toml:13:45: unknown field \"on_demand\" in [profiles.small.primary]\n    did you mean \"on-demand\"?",
        ),
        (
            "settle = \"16m\"",
            "settle = \"16m\"\nzzz = 1",
            "x.toml:19:1: unknown field \"zzz\" in [datasets.raw]\n    known here are: complete, list, location, ",
        ),
        (
            "[datasets.raw]",
            "[dataset.raw]",
            "x.toml:15:2: unknown field \"dataset\" in the file\n    did you mean \"datasets\"?",
        ),
        // Missing fields.
        (
            "deployment = \"demo\"",
            "",
            "x.toml:1:1: the file needs deployment\n    deployment: Names this installation",
        ),
        ("queue = \"inbox\"", "", "x.toml:4:1: [aws] needs queue\n    queue: The queue that S3"),
        ("name = \"transform\"", "", "x.toml:31:1: [tasks.etl.steps] needs name"),
        ("{ dataset = \"raw\" }", "{ }", "x.toml:28:11: [tasks.etl.inputs] needs dataset"),
        // Wrong types.
        (
            "settle = \"16m\"",
            "settle = 16",
            "x.toml:18:10: settle: expected a duration, found the number 16\n    write a number and a unit in quotes",
        ),
        (
            "queue = \"inbox\"",
            "queue = 12",
            "x.toml:5:9: queue: expected a text, found the number 12\n    write it in quotes: queue = \"12\"",
        ),
        (
            "attempts = 3",
            "attempts = \"3\"",
            "x.toml:36:22: attempts: expected a whole number, found the text \"3\"\n    write it without quotes: attempts = 3",
        ),
        (
            "attempts = 3",
            "attempts = 3.5",
            "x.toml:36:22: attempts: expected a whole number, found the number 3.5",
        ),
        (
            "backoff-rate = 2.0",
            "backoff-rate = \"2.0\"",
            "x.toml:36:54: backoff-rate: expected a number, found the text \"2.0\"\n    write it without quotes",
        ),
        (
            "primary =",
            "visible-to-all-users = \"yes\"\nprimary =",
            "x.toml:13:24: visible-to-all-users: expected true or false, found the text \"yes\"",
        ),
        (
            "outputs = [\"etl\"]",
            "outputs = \"etl\"",
            "x.toml:29:11: outputs: expected an array, found the text \"etl\"\n    write it in brackets: outputs = [\"etl\"]",
        ),
        (
            "[[tasks.etl.steps]]",
            "[tasks.etl.steps]",
            "x.toml:31:1: steps: expected an array, found a table\n    write each in brackets: steps = [{ … }], or [[tasks.etl.steps]] as the header",
        ),
        (
            "[profiles.small]",
            "[[profiles]]",
            "x.toml:9:1: profiles: expected a table, found an array\n    give each a name: [profiles.NAME] as the header",
        ),
        (
            "[aws]",
            "[[aws]]",
            "x.toml:4:1: aws: expected a table, found an array\n    write one table: aws = { … }, or [aws] as the header",
        ),
        (
            "schedule = { cron = \"5 * * * *\" }",
            "schedule = \"5 * * * *\"",
            "x.toml:26:12: schedule: expected a table, found the text \"5 * * * *\"\n    write { cron = … }",
        ),
        (
            "settle = \"16m\"",
            "settle = 2024-05-01",
            "x.toml:18:10: settle: expected a duration, found a date or time",
        ),
        // Values.
        (
            "partition = \"hour\"",
            "partition = \"hours\"",
            "x.toml:25:13: partition cannot be \"hours\"\n    did you mean \"hour\"? expected hour or day",
        ),
        (
            "kind = \"spark-submit\"",
            "kind = \"x\"",
            "x.toml:33:8: kind cannot be \"x\"\n    expected spark-submit, hive, command or jar",
        ),
        (
            "inputs =",
            "need = \"most\"\ninputs =",
            "x.toml:28:8: need cannot be \"most\"\n    expected all or any or a whole number",
        ),
        (
            "inputs =",
            "need = 0\ninputs =",
            "x.toml:28:8: need is 0: expected a whole number from 1 to 4294967295",
        ),
        (
            "settle = \"16m\"",
            "settle = \"16 parsecs\"",
            "x.toml:18:10: settle is \"16 parsecs\", which is no duration\n    write a number and a unit",
        ),
        (
            "settle = \"16m\"",
            "settle = \"2d\"",
            "x.toml:18:10: settle is \"2d\", which is no duration\n    write a number and a unit, h, m or s: \"16m\", \"1h 30m\", \"48h\"",
        ),
        (
            "attempts = 3",
            "attempts = -3",
            "x.toml:36:22: attempts is -3: expected a whole number from 0 to 4294967295",
        ),
        (
            "attempts = 3",
            "attempts = 0x1_0000_0000",
            "x.toml:36:22: attempts is 0x100000000: expected a whole number from 0",
        ),
        (
            "attempts = 3",
            "attempts = 99999999999999999999999999999999999999999999",
            "x.toml:36:22: attempts is 99999999999999999999999999999999999999999999: expected",
        ),
    ] {
        let told = mistakes(&changed(from, to));
        assert!(told.contains(&format!("error: {said}")), "{to}: {told}");
        assert!(told.ends_with("\n1 mistake"), "{to}: {told}");
    }
}

#[test]
fn what_is_no_toml_is_said_once_with_its_place() {
    for (from, to, said) in [
        (
            "[aws]",
            "[aws",
            "x.toml:4:5: this is not TOML: unclosed table, expected `]`\n    a table's header",
        ),
        (
            "\"inbox\"",
            "inbox",
            "x.toml:5:9: this is not TOML: invalid float, expected `inf`\n    write texts in quotes",
        ),
        ("\"inbox\"", "\"inbox", "x.toml:5:15: this is not TOML: invalid basic string"),
        (
            "[\"etl\"]",
            "[\"etl\"",
            "x.toml:31:1: this is not TOML: missing comma between array elements, expected `,`\n    put a comma between, or close the array with ] before this",
        ),
        (
            "[datasets.etl]",
            "[tasks.etl]",
            "x.toml:23:8: two tasks are called etl\n    the first is in line 20: rename one",
        ),
        (
            "[datasets.etl]",
            "[datasets.\"raw\"]",
            "x.toml:20:11: two datasets are called \"raw\"\n    the first is in line 15: rename one",
        ),
        (
            "quarantine = ",
            "queue = ",
            "x.toml:6:1: queue stands twice in one table\n    the first is in line 5: rename one",
        ),
        (
            "on-demand = 1",
            "on-demand = 1, on-demand = 2",
            "x.toml:13:60: on-demand stands twice in one table\n    the first is in line 13",
        ),
        (
            "name = \"transform\"",
            "name = \"transform\"\nargs = [\n\"a\"]",
            "x.toml:37:1: args stands twice in one table\n    the first is in line 33",
        ),
    ] {
        let told = mistakes(&changed(from, to));
        assert!(told.contains(said), "{to}: {told}");
        assert!(told.ends_with("\n1 mistake"), "{to}: {told}");
    }
}

#[test]
fn structure_and_meaning_are_judged_together_where_they_do_not_depend_on_each_other() {
    let text = changed("settle = \"16m\"", "settle = 16").replace("attempts = 3", "attempts = 300");
    let told = mistakes(&text);
    assert!(told.contains("settle: expected a duration"), "{told}");
    assert!(told.contains("attempts is 300: expected 0 to 20"), "{told}");
    assert!(told.ends_with("\n2 mistakes"), "{told}");
    // The same wrong profile in a task that can be judged and in one that cannot.
    let task = "[tasks.other]\npartitions = 1\nprofile = \"smal\"\npartition = \"day\"\n";
    let text = changed("profile = \"small\"", "profile = \"smal\"");
    let told = mistakes(&format!("{text}{task}"));
    assert!(told.contains("x.toml:24:11: there is no profile \"smal\""), "{told}");
    assert!(told.contains("unknown field \"partitions\" in [tasks.other]"), "{told}");
    assert!(told.ends_with("\n2 mistakes"), "{told}");
}

#[test]
fn a_secret_by_value_is_refused_and_not_repeated() {
    for (written, found) in [
        ("\"hunter2\"", "found a text"),
        ("[\"hunter2\"]", "found an array"),
        ("424242", "found a number"),
    ] {
        let kerberos =
            format!("kerberos = {{ realm = \"R\", kdc-admin-password = {written} }}\nprimary =");
        let told = mistakes(&changed("primary =", &kerberos));
        assert!(
            told.contains("x.toml:13:48: kdc-admin-password: expected a table, ")
                && told.contains(found),
            "{told}"
        );
        assert!(told.contains("a secret never stands in the file: name the environment"), "{told}");
        assert!(told.ends_with("\n1 mistake"), "{told}");
        assert!(!told.contains("hunter2") && !told.contains("424242"), "{told}");
    }
}

/// A table with a mistake of structure is still there: who names it is right,
/// and its outputs are still produced.
#[test]
fn nothing_follows_from_a_table_that_could_not_be_judged() {
    for (from, to) in [
        ("release-label", "release-lable"),
        ("settle = \"16m\"", "setle = \"16m\""),
        ("when-empty = \"skip\"", "when-emtpy = \"skip\""),
        ("outputs = ", "output = "),
        ("[aws]", "[aws]\nextra = 1"),
        ("[profiles.small]", "[profile.small]"),
    ] {
        // An output of many objects is judged by its task alone.
        let text =
            changed(from, to).replace("etl/{yyyy}/{MM}/{dd}/{HH}/", "etl/{yyyy}/{MM}/{dd}/{HH}/*");
        let told = mistakes(&text);
        assert!(told.ends_with("\n1 mistake"), "{to}: {told}");
    }
}

fn changed(from: &str, to: &str) -> String {
    let text = GOOD.replacen(from, to, 1);
    assert_ne!(text, GOOD, "{from}");
    text
}
