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
        let from = |name: &str| std::env::var(name).ok();
        let by = self.by.clone().or_else(|| from("USER")).or_else(|| from("LOGNAME"));
        let by = by.filter(|by| !by.trim().is_empty()).ok_or_else(|| {
            Failure::Use("nobody is named who asks for this: add --by NAME".to_owned())
        })?;
        Ok(Asked::new(&by, self.reason.as_deref(), now))
    }
}
