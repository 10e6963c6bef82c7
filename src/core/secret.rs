//! Secrets by reference: what the configuration and a stored run say instead
//! of the secret itself. Whoever makes the call looks it up then.

use schemars::JsonSchema;
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

/// The environment variable that holds a secret: `{ env = "NAME" }`. The value
/// is looked up where it is used and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, extend(
    "x-why" = "a secret never stands in the file: name the environment variable that holds it, { env = \"NAME\" }"
))]
pub struct SecretRef {
    /// The environment variable's name.
    pub env: String,
}

impl SecretRef {
    /// Whether the name can be one of a variable.
    pub fn names_a_variable(&self) -> bool {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !self.env.is_empty() && self.env.chars().all(fits)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    /// Whatever else stands there may be the secret itself, so that no message
    /// may repeat it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, deny_unknown_fields)]
        enum Form {
            Reference { env: String },
            Other(IgnoredAny),
        }
        match Form::deserialize(deserializer)? {
            Form::Reference { env } => Ok(SecretRef { env }),
            Form::Other(_) => Err(D::Error::custom(
                "a secret is never written here: expected { env = \"NAME\" }, the environment \
                 variable that holds it",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_repeats_a_secret() {
        for text in
            [r#""hunter2""#, r#"{"env": "A", "value": "hunter2"}"#, "42742", r#"["hunter2"]"#]
        {
            let error = serde_json::from_str::<SecretRef>(text).unwrap_err().to_string();
            assert!(error.contains("expected { env"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("42742"), "{error}");
        }
        let secret = SecretRef { env: "KDC".into() };
        assert_eq!(serde_json::from_str::<SecretRef>(r#"{"env": "KDC"}"#).unwrap(), secret);
    }
}
