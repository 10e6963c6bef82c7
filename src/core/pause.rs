//! A pause: nothing new of a task, of a profile or of all tasks is put into a
//! batch until somebody resumes it. What runs goes on, and arrivals are recorded
//! as ever. Not for who is ready (see `readiness`) or gathered (see `batch`).

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::catalog::Task;
use super::notice::{Fact, Kind, Notice, Severity};
use super::task::Unreadable;

/// What a pause holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    All,
    Profile(String),
    Task(String),
}

impl Scope {
    pub fn holds(&self, task: &Task) -> bool {
        match self {
            Scope::All => true,
            Scope::Profile(name) => task.profile == *name,
            Scope::Task(name) => task.name == *name,
        }
    }

    /// For people: `task etl`.
    pub fn words(&self) -> String {
        match self {
            Scope::All => "every task".to_owned(),
            Scope::Profile(name) => format!("profile {name}"),
            Scope::Task(name) => format!("task {name}"),
        }
    }
}

/// As it stands in the tables: `all`, `profile/p`, `task/t`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::All => f.write_str("all"),
            Scope::Profile(name) => write!(f, "profile/{name}"),
            Scope::Task(name) => write!(f, "task/{name}"),
        }
    }
}

impl FromStr for Scope {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match text.split_once('/') {
            None if text == "all" => Ok(Scope::All),
            Some(("profile", name)) => Ok(Scope::Profile(name.to_owned())),
            Some(("task", name)) => Ok(Scope::Task(name.to_owned())),
            _ => Err(Unreadable::new("pause", text)),
        }
    }
}

/// A pause as the tables hold it; one that is over stays, for its notices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub scope: Scope,
    /// Rises by one with every write; kept beside the rest in the table.
    #[serde(skip)]
    pub version: u64,
    /// Whoever paused it; None once it is resumed.
    pub paused: Option<Asked>,
    /// Changes not yet published, oldest first.
    pub notices: Vec<Notice>,
}

/// It is already as it was asked to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Already {
    #[error("{} is paused already, since {}, {asked}", scope.words(), asked.when())]
    Paused { scope: Scope, asked: Asked },
    #[error("there is no pause of {}", .0.words())]
    Resumed(Scope),
}

impl Pause {
    /// A scope of which nothing is stored yet.
    pub fn new(scope: Scope) -> Self {
        Self { scope, version: 0, paused: None, notices: Vec::new() }
    }

    /// One whose item this version cannot read: it holds until it is known.
    pub fn unreadable(scope: Scope) -> Self {
        let reason = "its item cannot be read: a newer version wrote it, or it is damaged";
        let asked = Asked::new("?", Some(reason), Timestamp::UNIX_EPOCH);
        Self { paused: Some(asked), ..Self::new(scope) }
    }

    pub fn pause(&mut self, asked: Asked) -> Result<(), Already> {
        if let Some(asked) = &self.paused {
            return Err(Already::Paused { scope: self.scope.clone(), asked: asked.clone() });
        }
        let notice = self
            .notice("paused", Severity::Warning, &asked)
            .saying(format!(
                "Nothing new of {} is run until it is resumed; what runs goes on, and arrivals \
                 are recorded",
                self.scope.words()
            ))
            .with([Fact::new("next", format!("to go on: sluicegate resume {}", self.named()))]);
        self.notices.push(notice);
        self.paused = Some(asked);
        Ok(())
    }

    pub fn resume(&mut self, asked: Asked) -> Result<(), Already> {
        let Some(paused) = self.paused.take() else {
            return Err(Already::Resumed(self.scope.clone()));
        };
        let notice = self
            .notice("resumed", Severity::Info, &asked)
            .saying(format!("What is ready of {} is run again", self.scope.words()))
            .with([
                Fact::since("paused since", paused.at, asked.at),
                Fact::new("paused by", paused.by),
            ]);
        self.notices.push(notice);
        Ok(())
    }

    fn notice(&self, status: &str, severity: Severity, asked: &Asked) -> Notice {
        // The version makes each change an event of its own.
        let id = format!("pause/{}/{}/{status}", self.scope, self.version + 1);
        let headline = format!("was {status} by {}", asked.by);
        let mut notice = Notice::new(Kind::Service, id, asked.at, severity, status, headline)
            .named(self.scope.words())
            .with(asked.facts());
        match &self.scope {
            Scope::All => {}
            Scope::Profile(name) => notice.profile = Some(name.clone()),
            Scope::Task(name) => notice.task = Some(name.clone()),
        }
        notice
    }

    /// As the command line names it.
    fn named(&self) -> String {
        match &self.scope {
            Scope::All => "--all".to_owned(),
            Scope::Profile(name) => format!("--profile {name}"),
            Scope::Task(name) => name.clone(),
        }
    }
}

/// The pause that holds a task, the oldest if there are several.
pub fn holding<'a>(pauses: &'a [Pause], task: &Task) -> Option<(&'a Scope, &'a Asked)> {
    let holding = pauses.iter().filter(|pause| pause.scope.holds(task));
    let paused = holding.filter_map(|pause| Some((&pause.scope, pause.paused.as_ref()?)));
    paused.min_by_key(|(_, asked)| asked.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(by: &str, minute: i64) -> Asked {
        Asked::new(by, Some("new release"), Timestamp::from_second(minute * 60).unwrap())
    }

    #[test]
    fn a_pause_is_made_once_and_ended_once_each_with_its_notice() {
        let mut pause = Pause::new(Scope::Task("etl".into()));
        pause.pause(asked("alice", 1)).unwrap();
        pause.version += 1;
        let again = pause.clone().pause(asked("bob", 2)).unwrap_err();
        assert_eq!(
            again.to_string(),
            "task etl is paused already, since 1970-01-01 00:01 UTC, by alice (new release)"
        );
        pause.resume(asked("bob", 3)).unwrap();
        pause.version += 1;
        assert_eq!(
            pause.resume(asked("bob", 4)).unwrap_err().to_string(),
            "there is no pause of task etl"
        );
        let ids: Vec<_> = pause.notices.iter().map(|notice| notice.id.as_str()).collect();
        assert_eq!(ids, ["pause/task/etl/1/paused", "pause/task/etl/2/resumed"]);
        let message = pause.notices[0].message("prod");
        assert_eq!(message.subject, "[prod] task etl was paused by alice");
        assert!(message.body.contains("reason:     new release"), "{}", message.body);
        assert!(message.body.contains("sluicegate resume etl"), "{}", message.body);
        assert_eq!(message.attributes["task"], "etl");
        for notice in &pause.notices {
            let mail = notice.message("prod").as_text();
            insta::assert_snapshot!(format!("service-{}", notice.status), mail);
        }
    }

    #[test]
    fn scopes_read_back() {
        for text in ["all", "profile/p", "task/t"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in ["", "everything", "task", "run/1"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }
}
