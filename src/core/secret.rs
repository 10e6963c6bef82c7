//! Secrets by reference: what the configuration and a stored run say instead
//! of the secret itself. Not for looking it up: that is `config::secret`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The environment variable that holds a secret: `{ env = "NAME" }`. The value
/// is looked up where it is used and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "x-why" = "a secret never stands in the file: name the environment variable that holds it, { env = \"NAME\" }"
))]
pub struct SecretRef {
    /// The environment variable's name.
    pub env: String,
}
