//! Which service a request is for, on the one port they share: by the scope it
//! was signed for, else by its shape. Signatures are not verified.

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};

use crate::wire::Request;

/// The services of the local AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    DynamoDb,
    Emr,
    Events,
    RedshiftData,
    S3,
    Sns,
    Sqs,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub service: Service,
    pub region: String,
}

impl Service {
    pub const ALL: [Self; 7] = [
        Self::DynamoDb,
        Self::Emr,
        Self::Events,
        Self::RedshiftData,
        Self::S3,
        Self::Sns,
        Self::Sqs,
    ];

    /// By the name in a credential scope.
    fn from_scope(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    /// The name in a credential scope, also used in the call log.
    pub fn name(self) -> &'static str {
        match self {
            Self::DynamoDb => "dynamodb",
            Self::Emr => "elasticmapreduce",
            Self::Events => "events",
            Self::RedshiftData => "redshift-data",
            Self::S3 => "s3",
            Self::Sns => "sns",
            Self::Sqs => "sqs",
        }
    }
}

/// Finds the service; the error names one that is not served here.
pub fn route(request: &Request) -> Result<Route, String> {
    if let Some((region, service)) = scope(request) {
        let service = Service::from_scope(&service).ok_or(service)?;
        return Ok(Route { service, region });
    }
    let service = match target(request).and_then(|target| target.split('.').next()) {
        Some("AmazonSQS") => Service::Sqs,
        Some("AWSEvents") => Service::Events,
        Some("ElasticMapReduce") => Service::Emr,
        Some("RedshiftData") => Service::RedshiftData,
        Some(name) if name.starts_with("DynamoDB_") => Service::DynamoDb,
        Some(other) => return Err(other.to_owned()),
        None if is_query_call(request) => Service::Sns,
        None => Service::S3,
    };
    let region = "us-east-1".to_owned();
    Ok(Route { service, region })
}

/// The action of a JSON protocol.
pub fn target_action(request: &Request) -> &str {
    let target = target(request).unwrap_or_default();
    target.split_once('.').map_or(target, |(_, action)| action)
}

fn target(request: &Request) -> Option<&str> {
    request.headers.get("x-amz-target")?.to_str().ok()
}

/// A call of the Query protocol: a form that is posted to the root, or a link
/// such as the one in mails that unsubscribes.
fn is_query_call(request: &Request) -> bool {
    let content_type = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_form =
        content_type.is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
    let is_link = request.uri.query().is_some_and(|query| query.starts_with("Action="));
    request.uri.path() == "/" && (request.method == Method::POST && is_form || is_link)
}

/// Region and service from `KEY/DATE/REGION/SERVICE/aws4_request`, in the
/// header or, in a presigned URL, in the query.
fn scope(request: &Request) -> Option<(String, String)> {
    let header = request.headers.get(AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let credential = match header {
        Some(header) => {
            let rest = header.split_once("Credential=")?.1;
            rest.split([',', ' ']).next()?.to_owned()
        }
        None => {
            let query = request.uri.query()?;
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find(|(name, _)| name == "X-Amz-Credential")?.1.into_owned()
        }
    };
    let mut parts = credential.rsplit('/');
    let (_terminator, service) = (parts.next()?, parts.next()?);
    Some((parts.next()?.to_owned(), service.to_owned()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                (name, value.parse().unwrap())
            })
            .collect();
        Request {
            method: Method::POST,
            uri: uri.parse().unwrap(),
            headers,
            body: bytes::Bytes::new(),
        }
    }

    #[test]
    fn goes_by_scope_then_by_shape() {
        let signed = "AWS4-HMAC-SHA256 Credential=AK/20130101/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=0";
        let foreign = signed.replace("sqs", "kinesis");
        let presigned = "/b/k?X-Amz-Credential=AK%2F20130101%2Feu-west-1%2Fs3%2Faws4_request";
        for (uri, header, expected) in [
            ("/", ("authorization", signed), Ok(("sqs", "eu-west-1"))),
            ("/", ("authorization", foreign.as_str()), Err("kinesis")),
            (presigned, ("accept", "*/*"), Ok(("s3", "eu-west-1"))),
            ("/", ("x-amz-target", "AmazonSQS.SendMessage"), Ok(("sqs", "us-east-1"))),
            ("/", ("x-amz-target", "DynamoDB_20120810.Scan"), Ok(("dynamodb", "us-east-1"))),
            ("/", ("x-amz-target", "AWSEvents.PutRule"), Ok(("events", "us-east-1"))),
            ("/", ("x-amz-target", "RedshiftData.X"), Ok(("redshift-data", "us-east-1"))),
            ("/", ("x-amz-target", "Kinesis_20131202.PutRecord"), Err("Kinesis_20131202")),
            (
                "/",
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                Ok(("sns", "us-east-1")),
            ),
            ("/?Action=Unsubscribe", ("accept", "*/*"), Ok(("sns", "us-east-1"))),
            ("/bucket/key", ("accept", "*/*"), Ok(("s3", "us-east-1"))),
            (
                "/bucket/key",
                ("content-type", "application/x-www-form-urlencoded"),
                Ok(("s3", "us-east-1")),
            ),
        ] {
            let found = route(&request(uri, &[header]));
            let found = found.as_ref().map(|r| (r.service.name(), r.region.as_str()));
            assert_eq!(found.map_err(|e| e.as_str()), expected, "{uri} {header:?}");
        }
    }
}
