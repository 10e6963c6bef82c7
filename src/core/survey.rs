//! One pass over EMR's list of clusters for all runs that want to know how
//! their clusters are: 50 clusters a call instead of one. A run asks and rests;
//! it is woken when a pass that began after its question has found its cluster,
//! or has ended without. At most one pass is under way, and those who ask
//! meanwhile share the next. Not for what follows from an answer: a cluster
//! that the list does not show is not dead.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::run::ClusterSeen;
use crate::planted::{Bug, planted};

/// Clocks differ: ours and that of EMR's creation dates.
const MARGIN: SignedDuration = SignedDuration::from_hours(1);

/// What a run wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// None looks for the cluster by its name.
    pub cluster: Option<String>,
    pub name: String,
    /// No cluster of the run is older.
    pub since: Timestamp,
}

impl Question {
    fn is_about(&self, listed: &Listed) -> bool {
        match &self.cluster {
            Some(cluster) => *cluster == listed.id,
            None if planted(Bug::AdoptionByPrefix) => {
                let run = self.name.rsplit_once('/').map_or("", |(run, _)| run);
                listed.name.starts_with(run)
            }
            None => self.name == listed.name,
        }
    }
}

/// What a pass says to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// When the pass began: what was created or changed later it may not show.
    pub began: Timestamp,
    pub found: Found,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    Listed(Listed),
    /// The list does not show it, or describing it costs no more than a list.
    NotListed,
    /// The list could not be read.
    Failed,
}

/// A cluster in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    pub id: String,
    pub name: String,
    /// None: in a state that this version does not know.
    pub seen: Option<ClusterSeen>,
}

/// One page of the list, newest clusters first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    pub clusters: Vec<Listed>,
    /// Where the next page begins; None after the last.
    pub marker: Option<String>,
}

/// What to do next for those who ask.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Nobody asks.
    Idle,
    /// These runs have their answers.
    Wake(Vec<String>),
    /// Read this page of the clusters created since.
    Read { since: Timestamp, marker: Option<String> },
}

/// Questions, the pass under way, and answers not yet fetched, all by run id.
#[derive(Debug, Default)]
pub struct Survey {
    questions: BTreeMap<String, Question>,
    pass: Option<Pass>,
    answers: BTreeMap<String, Answer>,
    /// Calls that the last pass took.
    pages: usize,
}

#[derive(Debug)]
struct Pass {
    began: Timestamp,
    since: Timestamp,
    questions: BTreeMap<String, Question>,
    marker: Option<String>,
    pages: usize,
}

impl Survey {
    /// Asks for a run. Asking again while the answer is on its way changes
    /// nothing.
    pub fn ask(&mut self, run: &str, question: Question) {
        let under_way = self.pass.as_ref().and_then(|pass| pass.questions.get(run));
        if under_way != Some(&question) {
            self.questions.insert(run.to_owned(), question);
        }
    }

    /// Fetches a run's answer. One that names another cluster than the run asks
    /// for now answers a question of its last attempt, and is thrown away.
    pub fn answer(&mut self, run: &str, question: &Question) -> Option<Answer> {
        self.answers.remove(run).filter(|answer| match &answer.found {
            Found::Listed(listed) => question.is_about(listed),
            Found::NotListed | Found::Failed => true,
        })
    }

    /// A run has ended or looks otherwise: nobody fetches its answer.
    pub fn forget(&mut self, run: &str) {
        self.questions.remove(run);
        self.answers.remove(run);
        if let Some(pass) = &mut self.pass {
            pass.questions.remove(run);
        }
    }

    pub fn next(&mut self, now: Timestamp) -> Next {
        if let Some(pass) = &self.pass {
            return Next::Read { since: pass.since, marker: pass.marker.clone() };
        }
        let questions = std::mem::take(&mut self.questions);
        let Some(oldest) = questions.values().map(|question| question.since).min() else {
            return Next::Idle;
        };
        let since = oldest.saturating_sub(MARGIN).unwrap_or(Timestamp::MIN);
        let pass = Pass { began: now, since, questions, marker: None, pages: 0 };
        // Only the list knows names.
        let known = pass.questions.values().all(|question| question.cluster.is_some());
        if known && pass.questions.len() <= self.pages.max(1) {
            return Next::Wake(self.end(pass, &Found::NotListed));
        }
        self.pass = Some(pass);
        Next::Read { since, marker: None }
    }

    /// Takes a page in; returns the runs that have their answers now.
    pub fn page(&mut self, page: Page) -> Vec<String> {
        let Some(mut pass) = self.pass.take() else { return Vec::new() };
        pass.pages += 1;
        pass.marker = page.marker;
        let mut answered = Vec::new();
        for (run, question) in &pass.questions {
            let Some(listed) = page.clusters.iter().find(|listed| question.is_about(listed)) else {
                continue;
            };
            let found = Found::Listed(listed.clone());
            self.answers.insert(run.clone(), Answer { began: pass.began, found });
            answered.push(run.clone());
        }
        for run in &answered {
            pass.questions.remove(run);
        }
        if pass.questions.is_empty() || pass.marker.is_none() {
            self.pages = pass.pages;
            answered.extend(self.end(pass, &Found::NotListed));
        } else {
            self.pass = Some(pass);
        }
        answered
    }

    /// The list cannot be read: the pass is over, without answers.
    pub fn failed(&mut self) -> Vec<String> {
        let pass = self.pass.take();
        pass.map_or_else(Vec::new, |pass| self.end(pass, &Found::Failed))
    }

    fn end(&mut self, pass: Pass, found: &Found) -> Vec<String> {
        let runs: Vec<_> = pass.questions.into_keys().collect();
        for run in &runs {
            let answer = Answer { began: pass.began, found: found.clone() };
            self.answers.insert(run.clone(), answer);
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::run::ClusterState;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_357_000_000 + secs).unwrap()
    }

    fn question(number: usize) -> Question {
        Question {
            cluster: Some(format!("j-{number}")),
            name: format!("test/{number}/1"),
            since: at(i64::try_from(number).unwrap()),
        }
    }

    fn page(numbers: impl IntoIterator<Item = usize>, marker: Option<&str>) -> Page {
        let listed = |number| Listed {
            id: format!("j-{number}"),
            name: format!("test/{number}/1"),
            seen: Some(ClusterSeen {
                state: ClusterState::Running,
                reason: String::new(),
                ended: None,
            }),
        };
        let clusters = numbers.into_iter().map(listed).collect();
        Page { clusters, marker: marker.map(str::to_owned) }
    }

    fn answer(survey: &mut Survey, run: &str) -> Option<Answer> {
        survey.answer(run, &question(run[1..].parse().unwrap_or(0)))
    }

    fn found(survey: &mut Survey, run: &str) -> Option<String> {
        match answer(survey, run)?.found {
            Found::Listed(listed) => Some(listed.id),
            Found::NotListed => Some("not listed".into()),
            Found::Failed => Some("failed".into()),
        }
    }

    /// Three ask, so that a list of one page is cheaper than describing.
    fn asked() -> Survey {
        let mut survey = Survey::default();
        for number in 1..=3 {
            survey.ask(&format!("r{number}"), question(number));
        }
        survey
    }

    #[test]
    fn one_pass_serves_all_who_asked_before_it_began() {
        let mut survey = asked();
        let first = Next::Read { since: at(1) - SignedDuration::from_hours(1), marker: None };
        assert_eq!(survey.next(at(10)), first);
        survey.ask("late", question(4));
        assert_eq!(survey.page(page([9, 4, 3, 1], Some("more"))), ["r1", "r3"]);
        let Next::Read { marker, .. } = survey.next(at(11)) else { panic!("the pass goes on") };
        assert_eq!(marker.as_deref(), Some("more"));
        assert_eq!(survey.page(page([0], None)), ["r2"]);
        assert_eq!(found(&mut survey, "r1").as_deref(), Some("j-1"));
        assert_eq!(found(&mut survey, "r2").as_deref(), Some("not listed"));
        assert_eq!(answer(&mut survey, "r3").unwrap().began, at(10));
        assert_eq!(found(&mut survey, "late"), None, "the pass began before it asked");
    }

    #[test]
    fn a_pass_ends_when_everybody_has_an_answer() {
        let mut survey = asked();
        let _ = survey.next(at(10));
        assert_eq!(survey.page(page([1, 2, 3], Some("more"))).len(), 3);
        assert_eq!(survey.next(at(11)), Next::Idle);
    }

    #[test]
    fn describing_is_preferred_where_it_costs_no_more_calls() {
        let mut survey = Survey::default();
        survey.ask("r1", question(1));
        assert_eq!(survey.next(at(10)), Next::Wake(vec!["r1".into()]));
        assert_eq!(found(&mut survey, "r1").as_deref(), Some("not listed"));
        // A list of two pages pays for three runs, not for two.
        let mut survey = asked();
        let _ = survey.next(at(10));
        survey.page(page([], Some("more")));
        survey.page(page([], None));
        for (askers, listed) in [(2, false), (3, true)] {
            (1..=askers).for_each(|number| survey.ask(&format!("r{number}"), question(number)));
            assert_eq!(matches!(survey.next(at(20)), Next::Read { .. }), listed);
        }
    }

    #[test]
    fn a_name_is_always_looked_for_in_the_list() {
        let mut survey = Survey::default();
        survey.ask("r7", Question { cluster: None, ..question(7) });
        assert!(matches!(survey.next(at(10)), Next::Read { .. }));
        assert_eq!(survey.page(page([8, 7], Some("more"))), ["r7"]);
        assert_eq!(found(&mut survey, "r7").as_deref(), Some("j-7"));
    }

    #[test]
    fn an_answer_about_the_last_attempts_cluster_is_none_for_the_next_attempt() {
        let next_attempt = Question { cluster: None, name: "test/1/2".into(), since: at(1) };
        // Asked for the last attempt and never fetched.
        let mut survey = asked();
        let _ = survey.next(at(10));
        survey.page(page([1, 2, 3], None));
        assert_eq!(survey.answer("r1", &next_attempt), None);
        // The pass under way was asked about the last attempt.
        let mut survey = asked();
        let _ = survey.next(at(10));
        survey.ask("r1", next_attempt.clone());
        survey.page(page([1, 2, 3], None));
        assert_eq!(survey.answer("r1", &next_attempt), None);
        assert!(matches!(survey.next(at(20)), Next::Read { .. }), "it is asked in its own pass");
        survey.page(page([1, 2, 3], None));
        let answer = survey.answer("r1", &next_attempt).unwrap();
        assert_eq!((answer.began, answer.found), (at(20), Found::NotListed));
    }

    #[test]
    fn a_failed_pass_answers_that_nothing_is_known() {
        let mut survey = asked();
        let _ = survey.next(at(10));
        survey.forget("r3");
        assert_eq!(survey.failed(), ["r1", "r2"]);
        assert_eq!(found(&mut survey, "r1").as_deref(), Some("failed"));
        assert_eq!((answer(&mut survey, "r3"), survey.next(at(11))), (None, Next::Idle));
    }
}
