//! What answers show of the state: lists of EMR that lag behind, and indexes of
//! DynamoDB that are old. Not for what is true.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use sluicegate_local::wire::Response;

use crate::call::Call;

/// What was shown, and from when new things are.
#[derive(Debug, Default)]
pub struct Lists {
    /// Cluster or step → when lists begin to show it.
    shown_from: BTreeMap<String, Timestamp>,
    /// The answer before the last to each query.
    older: BTreeMap<String, Bytes>,
    last: BTreeMap<String, Bytes>,
}

impl Lists {
    /// The answer to a query as it was some while ago.
    pub fn stale(&self, call: &Call) -> Option<Response> {
        self.older.get(&query(call)).map(|body| Response::new(body.clone()))
    }

    /// Keeps the answer to a query, to be shown when it is old.
    pub fn remember(&mut self, call: &Call, response: &Response) {
        let body = response.body().clone();
        if let Some(before) = self.last.insert(query(call), body) {
            self.older.insert(query(call), before);
        }
    }

    /// What this answer says was created shows in lists from then on.
    pub fn created(&mut self, response: &Response, from: Timestamp) {
        let answer: Value = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
        let steps = answer["StepIds"].as_array().into_iter().flatten();
        for id in steps.chain([&answer["JobFlowId"]]).filter_map(Value::as_str) {
            self.shown_from.insert(id.to_owned(), from);
        }
    }

    /// A list without what it does not show yet, and whether there was any.
    pub fn without_new(
        &self,
        mut response: Response,
        list: &str,
        now: Timestamp,
    ) -> (Response, bool) {
        let Ok(mut answer) = serde_json::from_slice::<Value>(response.body()) else {
            return (response, false);
        };
        let Some(entries) = answer[list].as_array_mut() else { return (response, false) };
        let before = entries.len();
        entries.retain(|entry| {
            let from = entry["Id"].as_str().and_then(|id| self.shown_from.get(id));
            from.is_none_or(|from| *from <= now)
        });
        let hides = entries.len() < before;
        if hides {
            *response.body_mut() = Bytes::from(answer.to_string());
        }
        (response, hides)
    }
}

/// What tells a query from others: not until when something is due.
fn query(call: &Call) -> String {
    let task = &call.body["ExpressionAttributeValues"][":task"]["S"];
    format!("{} {}", call.about, task.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_shows_later() {
        let mut lists = Lists::default();
        let at = |secs| Timestamp::from_second(secs).unwrap();
        let answer = |text: &'static str| Response::new(Bytes::from_static(text.as_bytes()));
        lists.created(&answer(r#"{"JobFlowId":"j-1"}"#), at(100));
        let list = r#"{"Clusters":[{"Id":"j-0"},{"Id":"j-1"}],"Marker":"m"}"#;
        for (now, expected, hides) in
            [(99, r#"{"Clusters":[{"Id":"j-0"}],"Marker":"m"}"#, true), (100, list, false)]
        {
            let (shown, hidden) = lists.without_new(answer(list), "Clusters", at(now));
            let body: Value = serde_json::from_slice(shown.body()).unwrap();
            assert_eq!(body, serde_json::from_str::<Value>(expected).unwrap());
            assert_eq!(hidden, hides);
        }
    }
}
