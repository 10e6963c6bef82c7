//! Reads requests into their types, and says in AWS's words what is wrong with
//! one. Not for the rules between members (see `rules`).

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::view::compact;
use crate::wire::ApiError;

/// A request that AWS takes for invalid.
pub fn refused(message: impl Display) -> ApiError {
    ApiError::bad_request("ValidationException", message.to_string())
}

/// Reads a request. As on AWS, members the type does not know are ignored and
/// null is the same as missing.
pub fn parse<T: DeserializeOwned>(body: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(compact(body)).map_err(|error| {
        let path = model_path(error.path());
        let text = error.inner().to_string();
        // serde tells its kinds of errors apart only by their wording; the
        // tests of `rules` hold it to that.
        if let Some(rest) = text.strip_prefix("missing field ") {
            let member = camel(rest.trim_matches('`'));
            let path = if path.is_empty() { member } else { format!("{path}.{member}") };
            refused(format!(
                "1 validation error detected: Value null at '{path}' failed to satisfy \
                 constraint: Member must not be null"
            ))
        } else if let Some(rest) = text.strip_prefix("unknown variant ") {
            let mut quoted = rest.split('`').skip(1).step_by(2);
            let value = quoted.next().unwrap_or_default();
            let known = quoted.collect::<Vec<_>>().join(", ");
            refused(format!(
                "1 validation error detected: Value '{value}' at '{path}' failed to satisfy \
                 constraint: Member must satisfy enum value set: [{known}]"
            ))
        } else {
            let place = if path.is_empty() { "the request" } else { &path };
            ApiError::bad_request("SerializationException", format!("{place}: {text}"))
        }
    })
}

/// A path as AWS writes it: `instances.instanceFleets.1.member.name`.
fn model_path(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let segments: Vec<String> = path
        .iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("{}.member", index + 1)),
            Segment::Map { key } => Some(camel(key)),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect();
    segments.join(".")
}

fn camel(member: &str) -> String {
    let mut letters = member.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
