//! Options of every command that changes something: who asks, and why.

use clap::Args;
use jiff::Timestamp;

use super::Failure;
use crate::core::asked::Asked;

#[derive(Debug, Args)]
pub struct AskedArgs {
    /// Who asks; default: the user's name
    #[arg(long, env = "SLUICEGATE_BY", value_name = "NAME")]
    by: Option<String>,
    /// Why; it stands in the mail and in what `why` answers
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl AskedArgs {
    pub fn asked(&self, now: Timestamp) -> Result<Asked, Failure> {
        let by = self.by().ok_or_else(|| {
            let words = "nobody is named who asks for this: add --by NAME, or set SLUICEGATE_BY";
            Failure::Use(words.to_owned())
        })?;
        Ok(Asked::new(&by, self.reason.as_deref(), now))
    }

    /// For what is only shown, whoever asks.
    pub fn asked_by_anybody(&self, now: Timestamp) -> Asked {
        Asked::new(&self.by().unwrap_or_default(), self.reason.as_deref(), now)
    }

    fn by(&self) -> Option<String> {
        let from = |name: &str| std::env::var(name).ok();
        let by = [self.by.clone(), from("USER"), from("LOGNAME")];
        by.into_iter().flatten().find(|by| !by.trim().is_empty())
    }
}
