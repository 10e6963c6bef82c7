//! Loads against a warehouse that loses answers, forgets tokens and lets its
//! statements fail, with a process that dies after any act: each partition ends,
//! and is in the table exactly as often as its end says.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::testing::{spec, warehouse};
use super::*;
use crate::core::notice::Notice;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_357_000_000 + secs).unwrap()
}

/// What becomes of the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    /// It has its effect, and nobody hears of it.
    AnswerLost,
    /// It never arrives.
    Lost,
    Throttled,
    /// The statements run, and fail.
    Fails,
    /// The same, by what is wrong with them.
    Invalid,
    /// The statements hang until they are cancelled.
    Hangs,
    /// The Data API forgets the token and the statement.
    Forgets,
}

/// One table and its ledger, behind the Data API.
#[derive(Default)]
struct FakeWarehouse {
    /// Token → statement.
    tokens: BTreeMap<String, String>,
    statements: BTreeMap<String, Statement>,
    /// Who has loaded the partition, as the ledger says.
    ledger: Option<String>,
    /// How many copies the table holds.
    copies: usize,
    sent: usize,
}

#[derive(Debug, Clone)]
enum Statement {
    Hanging { run: String },
    Ended(Seen),
}

impl FakeWarehouse {
    /// The transaction of `sql::statements`.
    fn transaction(&mut self, run: &str, mode: &Mode) -> Seen {
        let refused = match (mode, &self.ledger) {
            (_, None) => false,
            (Mode::Append, Some(_)) => true,
            (_, Some(loaded)) => loaded == run,
        };
        if refused {
            return Seen::Failed("division by zero".into());
        }
        if *mode != Mode::Append {
            self.copies = 0;
        }
        self.copies += 1;
        self.ledger = Some(run.to_owned());
        Seen::Finished { rows: Some(7) }
    }

    fn send(&mut self, token: &str, run: &str, mode: &Mode, fate: Fate) -> String {
        if let Some(id) = self.tokens.get(token) {
            return id.clone();
        }
        self.sent += 1;
        let id = format!("st-{}", self.sent);
        let statement = match fate {
            Fate::Fails => Statement::Ended(Seen::Failed("disk full".into())),
            Fate::Invalid => Statement::Ended(Seen::Failed("no such column".into())),
            Fate::Hangs => Statement::Hanging { run: run.to_owned() },
            _ => Statement::Ended(self.transaction(run, mode)),
        };
        self.tokens.insert(token.to_owned(), id.clone());
        self.statements.insert(id.clone(), statement);
        id
    }

    /// A statement that hung goes through after all.
    fn wake(&mut self, mode: &Mode) {
        let hanging = self.statements.iter().find_map(|(id, statement)| match statement {
            Statement::Hanging { run } => Some((id.clone(), run.clone())),
            Statement::Ended(_) => None,
        });
        if let Some((id, run)) = hanging {
            let seen = self.transaction(&run, mode);
            self.statements.insert(id, Statement::Ended(seen));
        }
    }

    fn observe(&mut self, act: &Act, run: &str, mode: &Mode, fate: Fate) -> Observation {
        let failure = match fate {
            Fate::Lost | Fate::AnswerLost => Some(CallFailure::Unknown("no answer".into())),
            Fate::Throttled => Some(CallFailure::Deferred("rate".into())),
            _ => None,
        };
        let arrives = !matches!(fate, Fate::Lost | Fate::Throttled);
        if fate == Fate::Forgets {
            self.tokens.clear();
            self.statements.retain(|_, statement| matches!(statement, Statement::Hanging { .. }));
        }
        fn answer<T>(failure: Option<CallFailure>, value: T) -> Result<T, CallFailure> {
            failure.map_or(Ok(value), Err)
        }
        match act {
            Act::Prepare => Observation::Prepared(answer(failure, Files { count: 2, bytes: 9 })),
            Act::Send { token } => {
                let id = if arrives { self.send(token, run, mode, fate) } else { String::new() };
                Observation::Sent(answer(failure, id))
            }
            Act::Look { statement } => {
                let seen = match self.statements.get(statement) {
                    None => Seen::Gone,
                    Some(Statement::Hanging { .. }) => Seen::Working,
                    Some(Statement::Ended(seen)) => seen.clone(),
                };
                Observation::Looked(answer(failure, seen))
            }
            Act::Cancel { statement } => {
                match self.statements.get_mut(statement).filter(|_| arrives) {
                    Some(statement @ Statement::Hanging { .. }) => {
                        *statement = Statement::Ended(Seen::Aborted);
                        Observation::Cancelled(answer(failure, ()))
                    }
                    // As Redshift answers for one that has ended, or that it
                    // has forgotten.
                    _ if arrives && failure.is_none() => Observation::Cancelled(Err(
                        CallFailure::Refused("it is already in FINISHED state".into()),
                    )),
                    _ => Observation::Cancelled(answer(failure, ())),
                }
            }
            Act::AskLedger => Observation::Ledger(answer(failure, self.ledger.clone())),
            Act::Rest(_) | Act::End(_) => Observation::Nothing,
        }
    }
}

/// Follows a load to its end as the engine does. `crash` says whether all memory
/// is lost after the nth act: before what it learnt is stored.
fn follow(
    mode: &Mode,
    warehouse: &mut FakeWarehouse,
    fates: &[Fate],
    crash: impl Fn(usize) -> bool,
) -> End {
    let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
    let (declared, spec) = (super::testing::warehouse(), spec(mode.clone()));
    let about = About { deployment: "prod", key: &key, warehouse: &declared, spec: &spec };
    let (mut now, mut stored) = (at(0), Load::new("R1", at(0)));
    let mut observation = Observation::Nothing;
    let mut fates = fates.iter().copied();
    let mut load = stored.clone();
    for number in 0..2_000 {
        let act = load.decide(&about, observation, now);
        stored = serde_json::from_str(&serde_json::to_string(&load).unwrap()).unwrap();
        observation = match act {
            Act::End(end) => return end,
            Act::Rest(until) => {
                assert!(until > now, "it rests until {until}, and it is {now}");
                now = until;
                Observation::Nothing
            }
            act => {
                let fate = fates.next().unwrap_or(Fate::Works);
                now += SignedDuration::from_millis(20);
                if fate == Fate::Works && number % 5 == 0 {
                    warehouse.wake(mode);
                }
                warehouse.observe(&act, "R1", mode, fate)
            }
        };
        if crash(number) {
            load = stored.clone();
            observation = Observation::Nothing;
        }
    }
    panic!("the load does not end: {load:?}");
}

fn modes() -> [Mode; 4] {
    let column = || "part".parse().unwrap();
    let upsert = Mode::Upsert(vec![column()]);
    [Mode::Append, Mode::ReplacePartition(column()), upsert, Mode::ReplaceTable]
}

#[test]
fn a_load_costs_three_calls_of_the_data_api_and_one_question() {
    let mut warehouse = FakeWarehouse::default();
    assert_eq!(follow(&Mode::Append, &mut warehouse, &[], |_| false), End::Loaded);
    assert_eq!((warehouse.copies, warehouse.sent), (1, 1));
}

#[test]
fn a_lost_answer_loads_nothing_twice() {
    for mode in modes() {
        for lost in 0..4 {
            let mut fates = vec![Fate::Works; lost];
            fates.push(Fate::AnswerLost);
            let mut warehouse = FakeWarehouse::default();
            assert_eq!(follow(&mode, &mut warehouse, &fates, |_| false), End::Loaded, "{fates:?}");
            assert_eq!(warehouse.copies, 1);
        }
    }
}

#[test]
fn a_load_that_fails_is_tried_so_often_and_then_says_what_the_warehouse_said() {
    let fates: Vec<_> = [Fate::Works, Fate::Fails, Fate::Works, Fate::Works].repeat(3);
    let mut warehouse = FakeWarehouse::default();
    let End::Failed { reason, class, .. } =
        follow(&Mode::Append, &mut warehouse, &fates, |_| false)
    else {
        panic!("it cannot be loaded")
    };
    assert_eq!(reason, "the load failed 3 times: disk full");
    assert_eq!(class, FailureClass::Internal);
    assert_eq!((warehouse.copies, warehouse.sent), (0, 3));
}

#[test]
fn what_the_warehouse_finds_wrong_is_not_tried_again() {
    // What fails otherwise before it is.
    for (fates, sent, times) in [
        (vec![Fate::Works, Fate::Invalid], 1, ""),
        (
            [Fate::Works, Fate::Fails, Fate::Works, Fate::Works, Fate::Works, Fate::Invalid].into(),
            2,
            " 2 times",
        ),
    ] {
        let mut warehouse = FakeWarehouse::default();
        let end = follow(&Mode::Append, &mut warehouse, &fates, |_| false);
        let End::Failed { reason, class, .. } = end else { panic!("it cannot be loaded") };
        assert_eq!(reason, format!("the load failed{times}: no such column"));
        assert_eq!(class, FailureClass::Validation);
        assert_eq!((warehouse.copies, warehouse.sent), (0, sent));
    }
}

#[test]
fn what_another_run_has_loaded_is_replaced_but_never_appended_to() {
    for mode in modes() {
        let mut warehouse =
            FakeWarehouse { ledger: Some("R0".into()), copies: 1, ..FakeWarehouse::default() };
        let end = follow(&mode, &mut warehouse, &[], |_| false);
        assert_eq!(warehouse.copies, 1);
        match mode {
            Mode::Append => {
                let End::Failed { reason, class, .. } = end else { panic!("appended twice") };
                assert_eq!(reason, "run R0 has loaded this partition already");
                assert_eq!(class, FailureClass::External);
            }
            _ => assert_eq!((end, warehouse.ledger.as_deref()), (End::Loaded, Some("R1"))),
        }
    }
}

#[test]
fn a_statement_that_hangs_is_cancelled_after_the_timeout() {
    let mut warehouse = FakeWarehouse::default();
    let fates = [Fate::Works, Fate::Hangs];
    // Nothing wakes it: every look comes with a fate of its own.
    let fates: Vec<_> = fates.into_iter().chain(vec![Fate::Throttled; 150]).collect();
    assert_eq!(follow(&Mode::ReplaceTable, &mut warehouse, &fates, |_| false), End::Loaded);
    assert_eq!(warehouse.copies, 1);
}

/// What is told of the way; each with the state of the load before.
fn told(load: &mut Load, observation: Observation, secs: i64) -> Option<Notice> {
    let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
    let (declared, spec) = (warehouse(), spec(Mode::Append));
    let about = About { deployment: "prod", key: &key, warehouse: &declared, spec: &spec };
    let before = load.clone();
    let _ = load.decide(&about, observation, at(secs));
    load.news(&before, &about, at(secs))
}

#[test]
fn an_attempt_that_failed_is_told_with_what_comes_next() {
    let mut load = Load::new("R1", at(0));
    let statement = || Ok("st-1".to_owned());
    let files = Ok(Files { count: 1, bytes: 9 });
    assert_eq!(told(&mut load, Observation::Prepared(files), 1), None);
    assert_eq!(told(&mut load, Observation::Sent(statement()), 2), None);
    let failed = Seen::Failed("disk full".into());
    assert_eq!(told(&mut load, Observation::Looked(Ok(failed)), 3), None);
    let notice = told(&mut load, Observation::Ledger(Ok(None)), 4).unwrap();
    insta::assert_snapshot!("load-failed", notice.message("prod").as_text());
}

#[test]
fn calls_that_fail_for_long_are_told_once_until_one_works() {
    let mut load = Load { stage: Stage::Settle, ..Load::new("R1", at(0)) };
    let silent = || Observation::Ledger(Err(CallFailure::Unknown("no answer in 30 s".into())));
    assert_eq!(told(&mut load, silent(), 0), None);
    assert_eq!(told(&mut load, silent(), 599), None);
    let notice = told(&mut load, silent(), 600).unwrap();
    insta::assert_snapshot!("load-stuck", notice.message("prod").as_text());
    assert_eq!(told(&mut load, silent(), 1_200), None);
    assert_eq!(told(&mut load, Observation::Nothing, 1_201), None);
    assert_eq!(told(&mut load, silent(), 1_202), None);
    let _ = told(&mut load, Observation::Ledger(Ok(None)), 1_203);
    assert_eq!(load.trouble, None);
}

#[test]
fn one_that_is_declared_no_more_is_told_once_if_that_lasts() {
    let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
    let mut load = Load { stage: Stage::Settle, ..Load::new("R1", at(0)) };
    let silent = || Observation::Ledger(Err(CallFailure::Unknown("no answer in 30 s".into())));
    assert_eq!(told(&mut load, silent(), 0), None);
    // What failed before is not what it waits for now.
    assert_eq!(load.not_declared(&key, at(590)), None);
    assert_eq!(load.not_declared(&key, at(1_189)), None);
    let notice = load.not_declared(&key, at(1_190)).unwrap();
    insta::assert_snapshot!("load-undeclared", notice.message("prod").as_text());
    assert_eq!(load.not_declared(&key, at(9_000)), None);
    assert_eq!(told(&mut load, Observation::Nothing, 9_001), None);
    assert_eq!(load.trouble, None, "declared again");
    assert_eq!(load.not_declared(&key, at(9_002)), None);
    assert!(load.not_declared(&key, at(9_602)).is_some());
}

#[test]
fn a_statement_that_ended_while_nobody_looked_is_looked_at_after_the_timeout() {
    let mode = Mode::Append;
    let (declared, spec) = (warehouse(), spec(mode.clone()));
    let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
    let about = About { deployment: "prod", key: &key, warehouse: &declared, spec: &spec };
    let statement = "st-1".to_owned();
    let stage = Stage::Execute { statement: statement.clone(), since: at(0), cancelled: false };
    let mut load = Load { stage, ..Load::new("R1", at(0)) };
    let back = at(0) + declared.timeout + SignedDuration::from_hours(1);
    let act = load.decide(&about, Observation::Nothing, back);
    assert_eq!(act, Act::Cancel { statement: statement.clone() });
    let refused = CallFailure::Refused("it is already in FINISHED state".into());
    let act = load.decide(&about, Observation::Cancelled(Err(refused)), back);
    let Act::Rest(until) = act else { panic!("{act:?}") };
    assert_eq!(load.decide(&about, Observation::Nothing, until), Act::Look { statement });
}

#[test]
fn a_load_that_is_refused_after_a_lost_answer_is_not_said_to_have_failed() {
    let (declared, spec) = (warehouse(), spec(Mode::Append));
    let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
    let about = About { deployment: "prod", key: &key, warehouse: &declared, spec: &spec };
    let refused = || Observation::Sent(Err(CallFailure::Refused("other parameters".into())));
    let sent = || Load { stage: Stage::Send { since: at(0) }, ..Load::new("R1", at(0)) };
    let mut load = sent();
    assert_eq!(load.decide(&about, refused(), at(60)), Act::AskLedger);
    let found = Observation::Ledger(Ok(Some("R1".into())));
    assert_eq!(load.decide(&about, found, at(60)), Act::End(End::Loaded));
    // What is not in the ledger is tried again, under another token.
    let mut load = sent();
    assert_eq!(load.decide(&about, refused(), at(60)), Act::AskLedger);
    let act = load.decide(&about, Observation::Ledger(Ok(None)), at(60));
    assert_eq!((act, load.attempt), (Act::Rest(at(60) + declared.retry_delay), 2));
    load.stage = Stage::Send { since: at(120) };
    assert_eq!(load.decide(&about, refused(), at(120)), Act::AskLedger);
    let act = load.decide(&about, Observation::Ledger(Ok(None)), at(120));
    let Act::End(End::Failed { reason, .. }) = act else { panic!("{act:?}") };
    assert_eq!(
        reason,
        "the load failed 2 times: the warehouse refuses its statements: other parameters"
    );
}

#[test]
fn a_token_names_one_attempt_of_one_run() {
    let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
    let other = TaskKey::new("etl", "2013-01-01T06".parse().unwrap());
    let (declared, spec) = (warehouse(), spec(Mode::Append));
    let token = |deployment, key, run: &str, attempt| {
        let about = About { deployment, key, warehouse: &declared, spec: &spec };
        Load { attempt, ..Load::new(run, at(0)) }.token(&about)
    };
    let first = token("prod", &key, "R1", 1);
    assert!(first.len() <= 64);
    assert_eq!(first, token("prod", &key, "R1", 1));
    for another in [
        token("test", &key, "R1", 1),
        token("prod", &other, "R1", 1),
        token("prod", &key, "R2", 1),
        token("prod", &key, "R1", 2),
    ] {
        assert_ne!(first, another);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_gets_lost_a_partition_is_loaded_once_or_said_to_have_failed(
        mode in 0usize..3,
        fates in proptest::collection::vec(
            prop_oneof![
                3 => Just(Fate::Works),
                1 => Just(Fate::AnswerLost),
                1 => Just(Fate::Lost),
                1 => Just(Fate::Throttled),
                1 => Just(Fate::Fails),
                1 => Just(Fate::Invalid),
                1 => Just(Fate::Hangs),
                1 => Just(Fate::Forgets),
            ],
            0..40,
        ),
        crashes in proptest::collection::btree_set(0usize..60, 0..12),
    ) {
        let mode = modes()[mode].clone();
        let mut warehouse = FakeWarehouse::default();
        let end = follow(&mode, &mut warehouse, &fates, |act| crashes.contains(&act));
        match end {
            End::Loaded => {
                prop_assert_eq!(warehouse.copies, 1);
                prop_assert_eq!(warehouse.ledger.as_deref(), Some("R1"));
            }
            End::Failed { .. } => prop_assert_eq!((warehouse.copies, warehouse.ledger), (0, None)),
        }
    }
}

/// It may be loaded, and the right to ask may come back.
#[test]
fn a_question_at_the_ledger_that_is_refused_ends_no_load_and_is_told() {
    let mut load = Load { stage: Stage::Settle, ..Load::new("R1", at(0)) };
    let refused = || Observation::Ledger(Err(CallFailure::Refused("AccessDenied".into())));
    assert_eq!(told(&mut load, refused(), 0), None);
    assert!(told(&mut load, refused(), 600).is_some());
    let (declared, spec) = (warehouse(), spec(Mode::Append));
    let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
    let about = About { deployment: "prod", key: &key, warehouse: &declared, spec: &spec };
    let act = load.decide(&about, refused(), at(601));
    assert!(matches!(act, Act::Rest(until) if until > at(601)), "{act:?}");
    let found = Observation::Ledger(Ok(Some("R1".into())));
    assert_eq!(load.clone().decide(&about, found, at(602)), Act::End(End::Loaded));
    // As long as a load may take, with no other answer between.
    let silent = Observation::Ledger(Err(CallFailure::Unknown("no answer".into())));
    let _ = load.decide(&about, silent, at(700));
    let end = at(800) + declared.timeout;
    assert!(matches!(load.decide(&about, refused(), at(800)), Act::Rest(_)));
    let nearly = end - SignedDuration::from_secs(1);
    assert!(matches!(load.decide(&about, refused(), nearly), Act::Rest(_)));
    let act = load.decide(&about, refused(), end);
    let Act::End(End::Failed { reason, .. }) = act else { panic!("{act:?}") };
    assert_eq!(reason, "the ledger cannot be read, so it may be loaded or not: AccessDenied");
}

#[test]
fn a_ledger_that_somebody_has_dropped_fails_no_load_for_good() {
    let (declared, spec) = (warehouse(), spec(Mode::Append));
    let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
    let about = About { deployment: "prod", key: &key, warehouse: &declared, spec: &spec };
    for (words, again) in [
        ("ERROR: relation \"public.sluicegate_loads\" does not exist", true),
        ("ERROR: relation \"mart.flights\" does not exist", false),
    ] {
        let stage = Stage::Execute { statement: "st-1".into(), since: at(0), cancelled: false };
        let mut load = Load { stage, ..Load::new("R1", at(0)) };
        let failed = Observation::Looked(Ok(Seen::Failed(words.into())));
        assert_eq!(load.decide(&about, failed, at(1)), Act::AskLedger);
        let act = load.decide(&about, Observation::Ledger(Ok(None)), at(2));
        assert_eq!(matches!(act, Act::Rest(_)), again, "{words}: {act:?}");
    }
}

#[test]
fn a_load_that_is_asked_for_again_has_all_its_attempts() {
    let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
    let (declared, spec) = (warehouse(), spec(Mode::Append));
    let about = About { deployment: "test", key: &key, warehouse: &declared, spec: &spec };
    let mut load = Load { attempt: declared.attempts, ..Load::new("R1", at(0)) };
    let old = load.token(&about);
    let fail = |load: &mut Load| {
        load.stage = Stage::Settle;
        load.decide(&about, Observation::Ledger(Ok(None)), at(60))
    };
    let ends = |act: &Act| matches!(act, Act::End(End::Failed { .. }));
    assert!(ends(&fail(&mut load)));
    load.files = Some(Files { count: 12, bytes: 1 });
    let mut again = load.again(at(100));
    // By the service's clock, which may be behind.
    assert_eq!(again.decide(&about, Observation::Nothing, at(1)), Act::Prepare);
    assert_ne!(again.token(&about), old);
    for attempt in 1..declared.attempts {
        assert_eq!(again.number(), attempt);
        assert!(!ends(&fail(&mut again)));
    }
    let act = fail(&mut again);
    let Act::End(End::Failed { reason, .. }) = act else { panic!("{act:?}") };
    assert!(reason.starts_with("the load failed 3 times: "), "{reason}");
}

/// Rows are replaced by nothing only where the run has made nothing.
#[test]
fn an_output_whose_files_have_gone_replaces_no_rows() {
    let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
    let (declared, spec) = (warehouse(), spec(Mode::ReplaceTable));
    let about = About { deployment: "test", key: &key, warehouse: &declared, spec: &spec };
    let prepared = |count| Observation::Prepared(Ok(Files { count, bytes: 1 }));
    let mut empty = Load::new("R1", at(0));
    assert!(matches!(empty.decide(&about, prepared(0), at(0)), Act::Send { .. }));
    let refused = |mut load: Load, said: &str| {
        let act = load.decide(&about, prepared(0), at(100));
        let Act::End(End::Failed { reason, .. }) = act else { panic!("{act:?}") };
        assert_eq!((reason.as_str(), load.needs_steps), (said, true));
    };
    // Whether a person asks for it again, or it is tried again.
    let mut load = Load::new("R1", at(0));
    assert!(matches!(load.decide(&about, prepared(12), at(0)), Act::Send { .. }));
    refused(load.again(at(60)), "its output has no files any more, and had 12");
    load.stage = Stage::Settle;
    assert!(matches!(load.decide(&about, Observation::Ledger(Ok(None)), at(1)), Act::Rest(_)));
    refused(load, "its output has no files any more, and had 12");
    // Nobody knows what was there when its first list was refused.
    let mut load = Load::new("R1", at(0));
    let denied = Observation::Prepared(Err(CallFailure::Refused("AccessDenied".to_owned())));
    assert!(matches!(load.decide(&about, denied, at(0)), Act::End(End::Failed { .. })));
    assert!(!load.needs_steps);
    refused(load.again(at(60)), "its output has no files now");
}
