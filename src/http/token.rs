//! The word that opens the metrics to whoever asks over the network. It is read
//! from the environment, and shown nowhere. Not for probes, which need none.

use std::fmt;
use std::ops::RangeInclusive;

use axum::http::HeaderValue;
use subtle::ConstantTimeEq;

use crate::core::secret::SecretRef;

/// Too long to be guessed, short enough for a header.
const LENGTHS: RangeInclusive<usize> = 16..=1024;

/// What a client has to bring.
#[derive(Clone)]
pub struct Token(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error(
        "the environment variable {0} is not set, and token of [http] names it\n    set it, or leave \
         token out and listen at loopback"
    )]
    Missing(String),
    #[error(
        "the environment variable {0} holds no token: expected {from} to {to} letters, digits and \
         signs of ASCII without spaces\n    make one with: openssl rand -hex 32",
        from = LENGTHS.start(), to = LENGTHS.end()
    )]
    Unfit(String),
}

impl Token {
    /// Looks it up where the configuration says.
    pub fn look_up(
        reference: &SecretRef,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, TokenError> {
        let name = &reference.env;
        let value = environment(name).ok_or_else(|| TokenError::Missing(name.clone()))?;
        let fits = LENGTHS.contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic());
        match fits {
            true => Ok(Self(value)),
            false => Err(TokenError::Unfit(name.clone())),
        }
    }

    /// Whether a request's Authorization has it. The time it takes tells its
    /// length at most.
    pub(super) fn is_in(&self, authorization: Option<&HeaderValue>) -> bool {
        let words = authorization.and_then(|value| value.to_str().ok()?.split_once(' '));
        words.is_some_and(|(scheme, given)| {
            scheme.eq_ignore_ascii_case("bearer")
                && bool::from(given.trim().as_bytes().ct_eq(self.0.as_bytes()))
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(value: Option<&str>) -> Result<Token, TokenError> {
        let value = value.map(str::to_owned);
        Token::look_up(&SecretRef { env: "METRICS".into() }, |name| {
            assert_eq!(name, "METRICS");
            value.clone()
        })
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = look_up(Some("0123456789abcdef")).unwrap();
        for (header, opens) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer  0123456789abcdef ", true),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer ", false),
            ("Bearer", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
            ("", false),
        ] {
            assert_eq!(token.is_in(Some(&HeaderValue::from_static(header))), opens, "{header}");
        }
        assert!(!token.is_in(None));
        assert!(!token.is_in(Some(&HeaderValue::from_bytes(b"Bearer \xff").unwrap())));
    }

    #[test]
    fn what_is_no_token_is_refused_and_never_shown() {
        assert!(look_up(None).unwrap_err().to_string().contains("METRICS is not set"));
        for value in ["", "hunter2", "hunter2 hunter2 hunter2", "hunter2\u{e9}hunter2hunter2"] {
            let error = look_up(Some(value)).unwrap_err().to_string();
            assert!(error.contains("METRICS holds no token: expected 16 to 1024"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let long = "x".repeat(1025);
        assert_eq!(look_up(Some(&long)).unwrap_err(), TokenError::Unfit("METRICS".into()));
        assert_eq!(format!("{:?}", look_up(Some("0123456789abcdef"))), "Ok(Token(…))");
    }
}
