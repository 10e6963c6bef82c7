//! What may be deleted is hidden by then; what people hear of it.

use proptest::prelude::*;

use super::*;
use crate::core::catalog::testing::{input, task};
use crate::core::catalog::{Dataset, OnTimeout, WaitLimit};
use crate::core::partition::Grain;
use crate::core::task::TaskState;
use crate::core::template::Template;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hours(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

fn day(text: &str) -> Partition {
    text.parse().unwrap()
}

const LONG_AGO: &str = "2000-01-01T00:00:00Z";

/// One that was always in force.
fn horizon(kept: i64) -> Horizon {
    let mut horizon = Horizon::default();
    assert!(horizon.keep(Some(hours(kept)), at(LONG_AGO)));
    horizon
}

#[test]
fn a_partition_expires_after_its_own_end_and_that_of_its_work() {
    let retention = Retention { partitions: Some(hours(90)), runs: Some(hours(30)) };
    let never = Retention::default();
    for (ended, expires) in [
        // Worked off at once: 90 days after its end, and one more.
        ("2013-01-02T00:10:00Z", "2013-04-03T00:10:00Z"),
        // Run ahead of its time.
        ("2012-12-01T00:00:00Z", "2013-04-03T00:00:00Z"),
        // Run again much later.
        ("2013-03-01T00:00:00Z", "2013-05-31T00:00:00Z"),
    ] {
        let found = retention.partition_expires(&day("2013-01-01"), at(ended));
        assert_eq!(found, Some(at(expires)), "{ended}");
        assert_eq!(never.partition_expires(&day("2013-01-01"), at(ended)), None);
    }
    let written = at("2013-01-02T00:00:00Z");
    assert_eq!(retention.run_expires(written), Some(at("2013-02-02T00:00:00Z")));
    assert_eq!(retention.beside_expires(written), Some(at("2013-07-02T00:00:00Z")));
    assert_eq!((never.run_expires(written), never.beside_expires(written)), (None, None));
}

#[test]
fn what_expires_counts_as_gone_a_day_before() {
    let expires = Some(at("2013-04-03T00:00:00Z"));
    assert!(!is_gone(expires, at("2013-04-01T23:59:59Z")));
    assert!(is_gone(expires, at("2013-04-02T00:00:00Z")));
    assert!(!is_gone(None, Timestamp::MAX));
}

#[test]
fn only_what_may_have_been_deleted_is_hidden() {
    let seen = at(LONG_AGO);
    for (partition, hidden) in [
        ("2013-01-01", true),
        ("2013-01-02", true),
        ("2013-01-03", false),
        // Of the future.
        ("2013-05-01", false),
    ] {
        let now = at("2013-04-03T00:00:00Z");
        assert_eq!(horizon(90).hides(&day(partition), seen, now), hidden, "{partition}");
        // Kept for ever.
        assert!(!Horizon::default().hides(&day(partition), seen, now));
    }
    // A task that is not known for so long has nothing that is gone yet.
    let (old, now) = (day("2010-01-01"), at("2013-04-03T00:00:00Z"));
    assert!(!horizon(90).hides(&old, at("2013-01-03T00:00:01Z"), now));
    assert!(horizon(90).hides(&old, at("2013-01-03T00:00:00Z"), now));
    // Nor has a deployment that deletes nothing for so long.
    let mut young = Horizon::default();
    young.keep(Some(hours(90)), at("2013-02-01T00:00:00Z"));
    assert!(!young.hides(&old, seen, now));
    assert!(young.hides(&old, seen, at("2013-05-02T00:00:00Z")));
}

#[test]
fn what_a_shorter_retention_let_go_stays_gone_under_a_longer_one() {
    let (seen, change) = (at(LONG_AGO), at("2013-04-03T00:00:00Z"));
    for longer in [Some(hours(365)), None] {
        let mut horizon = horizon(90);
        assert!(horizon.keep(longer, change));
        assert!(!horizon.keep(longer, change), "the same again");
        assert_eq!(horizon.kept(), longer);
        // What ended before the change goes as it would have gone.
        assert!(horizon.hides(&day("2013-01-01"), seen, change));
        assert!(!horizon.hides(&day("2013-02-01"), seen, change));
        assert!(horizon.hides(&day("2013-02-01"), seen, at("2013-05-03T00:00:00Z")));
        // What ends later does not.
        assert!(!horizon.hides(&day("2013-06-01"), seen, at("2013-12-01T00:00:00Z")));
        let stored = serde_json::to_string(&horizon).unwrap();
        assert_eq!(serde_json::from_str::<Horizon>(&stored).unwrap(), horizon);
    }
}

#[test]
fn what_the_last_retention_has_overtaken_is_forgotten() {
    let mut horizon = horizon(90);
    for (now, kept) in
        [("2013-01-01T00:00:00Z", 365), ("2013-06-01T00:00:00Z", 30), ("2016-01-01T00:00:00Z", 60)]
    {
        assert!(horizon.keep(Some(hours(kept)), at(now)));
    }
    assert_eq!(horizon.periods.len(), 2, "{horizon:?}");
}

proptest! {
    /// Whatever the retention was when, and however it was changed: nothing is ever
    /// deleted of a partition that may be begun as if it were new.
    #[test]
    fn what_may_be_deleted_is_hidden_by_then(
        changes in proptest::collection::vec((0i64..500, proptest::option::of(15i64..400)), 1..6),
        seen in 0i64..300,
        of in 0i64..900,
        ended_after in -30i64..60,
        looks in proptest::collection::vec(0i64..2_000, 1..20),
    ) {
        let start = at("2010-01-01T00:00:00Z");
        let on = |day: i64| start + hours(day);
        let partition = Partition::containing(on(of), Grain::Day);
        let ended = partition.end() + hours(ended_after);
        let mut changes: Vec<_> =
            changes.into_iter().map(|(day, kept)| (on(day), kept.map(hours))).collect();
        changes.sort_by_key(|(from, _)| *from);
        let mut horizon = Horizon::default();
        let mut in_force = Retention::default();
        for (from, kept) in &changes {
            if *from <= ended {
                in_force.partitions = *kept;
            }
        }
        prop_assume!(on(seen) <= ended);
        let expires = in_force.partition_expires(&partition, ended);
        let mut moments: Vec<_> = looks.into_iter().map(|day| (on(day), None)).collect();
        moments.extend(changes.iter().map(|(from, kept)| (*from, Some(*kept))));
        moments.sort_by_key(|(at, _)| *at);
        for (now, change) in moments {
            if let Some(kept) = change {
                horizon.keep(kept, now);
            }
            let gone = now >= ended && is_gone(expires, now);
            prop_assert!(!gone || horizon.hides(&partition, on(seen), now), "{now} {horizon:?}");
        }
    }
}

fn catalog(wait: Option<i64>) -> Catalog {
    let location = Template::parse("s3://b/raw/{yyyy}/{MM}/{dd}/{HH}/*").unwrap();
    let completeness = Completeness::Closed { settle: SignedDuration::from_mins(20) };
    let raw = Dataset { name: "raw".into(), location, completeness, list: true };
    let mut daily = task("daily", Grain::Day, vec![input("raw", 0, 30)]);
    daily.wait = wait.map(|days| WaitLimit { timeout: hours(days), then: OnTimeout::Fail });
    Catalog::new("test".into(), vec![raw], vec![], vec![daily])
}

#[test]
fn a_row_is_kept_until_nobody_waits_for_it() {
    let hour = day("2013-01-01T05");
    // Its day, and the day before, whose window reaches into it, wait for two days more.
    let until = awaited_until(&catalog(Some(2)), "raw", &hour);
    assert_eq!(until, Some(at("2013-01-04T00:00:00Z")));
    assert_eq!(awaited_until(&catalog(None), "raw", &hour), None);
    assert_eq!(awaited_until(&catalog(None), "unread", &hour), Some(hour.end()));
}

#[test]
fn what_may_come_last_says_how_long_partitions_are_needed() {
    let of = |catalog: &Catalog| needed(catalog, &catalog.tasks["daily"]);
    // Six hours after its end, and twenty minutes.
    assert_eq!(of(&catalog(None)), (SignedDuration::from_mins(380), "inputs"));
    assert_eq!(of(&catalog(Some(20))), (hours(20), "wait-timeout"));
    let mut late = catalog(Some(20));
    let again = LateData::RunAgain { until: hours(30), back_off: hours(1) };
    late.tasks.get_mut("daily").unwrap().late_data = again;
    assert_eq!(of(&late), (hours(30), "late-data"));
}

#[test]
fn only_what_has_ended_and_told_all_of_it_is_over() {
    use TaskState::{Failed, Running, Skipped, Succeeded, Waiting};
    let retention = Retention { partitions: Some(hours(90)), runs: None };
    let item = |state| {
        let mut item = TaskPartition::new(TaskKey::new("etl", day("2013-01-01")));
        (item.state, item.since) = (state, Some(at("2013-01-02T00:00:00Z")));
        item
    };
    let over = |item: &TaskPartition, now| is_over(item, &retention, at(now));
    let (day, after) = ("2013-04-02T23:59:59Z", "2013-04-03T00:00:00Z");
    for state in [Succeeded, Failed, Skipped] {
        assert!(!over(&item(state), day) && over(&item(state), after), "{state:?}");
    }
    assert!(!over(&item(Waiting), after) && !over(&item(Running), after));
    assert!(!over(&TaskPartition { outputs_pending: true, ..item(Succeeded) }, after));
    assert!(!over(&TaskPartition { due: Some(at(day)), ..item(Succeeded) }, after));
    // One that an early version wrote, without an instant.
    assert!(over(&TaskPartition { since: None, ..item(Succeeded) }, after));
    let forever = Retention::default();
    assert!(!is_over(&item(Succeeded), &forever, Timestamp::MAX));
}

#[test]
fn people_hear_what_was_too_old() {
    let mut found = Found::default();
    found.add("raw", 3, "s3://b/raw/1");
    let now = at("2013-06-01T06:00:00Z");
    let notice = too_old(&found, Some(hours(90)), "listing/1".into(), now);
    insta::assert_snapshot!("service-too-old", notice.message("prod").as_text());
    let refused = refused(&TaskKey::new("etl", day("2013-01-01")), Some(hours(90)));
    assert_eq!(
        refused.to_string(),
        "etl 2013-01-01 ended longer ago than partitions are kept (90d), and nothing is stored of \
         it, nothing was changed\n    whether it has run before is not known any more; to run it \
         all the same: sluicegate backfill etl --from 2013-01-01 --to 2013-01-01 --force"
    );
    for (span, words) in [(hours(90), "90d"), (SignedDuration::from_hours(373), "15d 13h")] {
        assert_eq!(days(span), words);
    }
    assert_eq!(days(SignedDuration::from_mins(90)), "1h 30m");
}
