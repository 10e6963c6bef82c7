//! The Query protocol: form parameters in, XML out. Knows no action.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::wire::{ApiError, Response};

const NAMESPACE: &str = "http://sns.amazonaws.com/doc/2010-03-31/";

/// The parameters of one request.
#[derive(Debug, Clone, Default)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    pub fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn require(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| {
            let message = format!("Invalid parameter: {name}");
            ApiError::bad_request("InvalidParameter", message)
        })
    }

    /// The parameters of each entry of a list: `Attributes.entry.1.key` is
    /// `key` of the first entry of `Attributes.entry`.
    pub fn list(&self, name: &str) -> Vec<Self> {
        let prefix = format!("{name}.");
        let mut entries: BTreeMap<u32, BTreeMap<String, String>> = BTreeMap::new();
        for (name, value) in self.0.range(prefix.clone()..) {
            let Some(rest) = name.strip_prefix(&prefix) else {
                break;
            };
            let (number, rest) = rest.split_once('.').unwrap_or((rest, ""));
            if let Ok(number) = number.parse() {
                entries.entry(number).or_default().insert(rest.to_owned(), value.clone());
            }
        }
        entries.into_values().map(Self).collect()
    }

    /// A map in the form `NAME.entry.N.key` and `NAME.entry.N.value`.
    pub fn map(&self, name: &str) -> BTreeMap<String, String> {
        let entries = self.list(&format!("{name}.entry"));
        let pair =
            |entry: &Self| Some((entry.get("key")?.to_owned(), entry.get("value")?.to_owned()));
        entries.iter().filter_map(pair).collect()
    }
}

/// A piece of XML, built from the inside out.
#[derive(Debug, Clone, Default)]
pub struct Xml(String);

impl Xml {
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.0.push_str(&format!("<{name}>{}</{name}>", escaped(value)));
        self
    }

    pub fn node(mut self, name: &str, inner: &Self) -> Self {
        self.0.push_str(&format!("<{name}>{}</{name}>", inner.0));
        self
    }

    /// `<entry><key/><value/></entry>` for each pair.
    pub fn entries(self, map: &BTreeMap<String, String>) -> Self {
        map.iter().fold(self, |xml, (key, value)| {
            let entry = Self::default().text("key", key).text("value", value);
            xml.node("entry", &entry)
        })
    }

    pub fn members(self, members: &[Self]) -> Self {
        members.iter().fold(self, |xml, member| xml.node("member", member))
    }
}

/// The answer to one request.
pub fn answer(action: &str, result: Result<Xml, ApiError>, request_id: &str) -> Response {
    let (status, body) = match result {
        Ok(inner) => {
            let metadata = Xml::default().text("RequestId", request_id);
            let body = Xml::default()
                .node(&format!("{action}Result"), &inner)
                .node("ResponseMetadata", &metadata);
            (StatusCode::OK, document(&format!("{action}Response"), &body))
        }
        Err(error) => {
            let details = Xml::default()
                .text("Type", "Sender")
                .text("Code", error.code)
                .text("Message", &error.message);
            let body = Xml::default().node("Error", &details).text("RequestId", request_id);
            (error.status, document("ErrorResponse", &body))
        }
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/xml");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn document(name: &str, inner: &Xml) -> String {
    format!("<{name} xmlns=\"{NAMESPACE}\">{}</{name}>", inner.0)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#13;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order_and_their_entries_apart() {
        let params = Params::parse(b"A.entry.10.key=j&A.entry.10.value=10&A.entry.2.key=b&A.entry.2.value=2&AB.entry.1.key=no");
        let list = params.list("A.entry");
        let keys: Vec<_> = list.iter().map(|entry| entry.get("key").unwrap()).collect();
        assert_eq!(keys, ["b", "j"]);
        assert_eq!(params.map("A").len(), 2);
    }

    #[test]
    fn text_is_escaped() {
        let xml = Xml::default().text("M", "<a & \"b\">");
        assert_eq!(xml.0, "<M>&lt;a &amp; &quot;b&quot;&gt;</M>");
    }
}
