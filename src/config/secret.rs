//! Looks up secrets where they are used. Not for what the file may say of
//! them: that is `core::secret`.

use std::fmt;

use crate::core::secret::SecretRef;

/// A secret's value. It can be read by those who use it, but not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Names the variable, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the environment variable {0} is not set: the configuration takes a secret from it")]
    Missing(String),
    #[error("the environment variable {0} is not UTF-8: the configuration takes a secret from it")]
    NotText(String),
}

impl Secret {
    /// Takes the secret from this process' environment.
    pub fn look_up(reference: &SecretRef) -> Result<Self, SecretError> {
        let name = &reference.env;
        // std panics at names that no variable can have.
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(SecretError::Missing(name.clone()));
        }
        match std::env::var(name) {
            Ok(value) if !value.is_empty() => Ok(Self(value)),
            Ok(_) | Err(std::env::VarError::NotPresent) => Err(SecretError::Missing(name.clone())),
            Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::NotText(name.clone())),
        }
    }

    /// The secret itself; keep it out of logs, errors and tables.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_by_its_name_and_never_printed() {
        // Cargo sets this one for every test.
        let name = "CARGO_PKG_NAME";
        let secret = Secret::look_up(&SecretRef { env: name.into() }).unwrap();
        assert_eq!(secret.expose(), "sluicegate");
        assert!(!format!("{secret:?}").contains("sluicegate"));
        for name in ["SLUICEGATE_THERE_IS_NO_SUCH_VARIABLE", "", "A=B", "A\0B"] {
            let missing = Secret::look_up(&SecretRef { env: name.into() });
            assert_eq!(missing.unwrap_err(), SecretError::Missing(name.into()));
        }
    }
}
