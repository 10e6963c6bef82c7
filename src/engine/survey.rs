//! Reads EMR's list of clusters for all runs that ask, page by page at the
//! quota's pace, and wakes those who have their answers. Who asks what is kept
//! in `core::survey`.

use jiff::Timestamp;

use super::{Engine, Key};
use crate::aws::error::Kind;
use crate::core::quota::Call;
use crate::core::run::{Act, Hints, Observation, Run};
use crate::core::survey::{Found, Next, Question};

/// Whose place in the quota's queue it is.
const NAME: &str = "survey";

impl Engine {
    /// What a survey says to a run, or None: then it has been asked, and the
    /// run is woken by the answer.
    pub(super) fn surveyed(&self, run: &Run, act: &Act, hints: &Hints) -> Option<Observation> {
        let question = self.question(run);
        let now = self.clock.now();
        let mut memory = self.memory();
        let answer = memory.survey.answer(&run.id, &question);
        let news = answer.filter(|answer| *act == Act::LookUp || hints.is_news(answer.began, now));
        let Some(answer) = news else {
            memory.survey.ask(&run.id, question);
            drop(memory);
            self.agenda.wake(Key::Survey, now);
            return None;
        };
        Some(match (answer.found, act) {
            (Found::Failed, _) => Observation::NotSeen,
            (Found::Listed(listed), Act::LookUp) => {
                Observation::LookedUp { cluster: Some(listed.id), began: answer.began }
            }
            (Found::NotListed, Act::LookUp) => {
                Observation::LookedUp { cluster: None, began: answer.began }
            }
            (Found::Listed(listed), _) => Observation::Surveyed(listed.seen),
            (Found::NotListed, _) => Observation::Surveyed(None),
        })
    }

    fn question(&self, run: &Run) -> Question {
        Question {
            cluster: run.attempt().and_then(|attempt| attempt.cluster.clone()),
            name: run.cluster_name(&self.catalog().deployment),
            since: run.created,
        }
    }

    pub(super) async fn turn_survey(&self) -> Option<Timestamp> {
        loop {
            let now = self.clock.now();
            let next = self.memory().survey.next(now);
            let answered = match next {
                Next::Idle => return None,
                Next::Wake(runs) => runs,
                Next::Read { since, marker } => {
                    if let Err(until) = self.permit(Call::ListClusters, NAME) {
                        return Some(until);
                    }
                    match self.emr.list_clusters(since, marker).await {
                        Ok(page) => self.memory().survey.page(page),
                        Err(error) if error.is_about_the_signature() => {
                            tracing::warn!(%error, "the survey of clusters goes on later");
                            return Some(super::after(now, self.sweep_interval));
                        }
                        Err(error) if error.kind == Kind::Deferred => {
                            tracing::warn!(%error, "the survey of clusters goes on later");
                            return Some(self.throttled(Call::ListClusters));
                        }
                        Err(error) => {
                            tracing::warn!(%error, "no survey of clusters, nothing follows from that");
                            self.memory().survey.failed()
                        }
                    }
                }
            };
            for run in answered {
                self.agenda.wake(Key::Run(run), now);
            }
        }
    }
}
