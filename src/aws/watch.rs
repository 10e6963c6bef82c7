//! Counts the requests to AWS as they go over the wire, by service, action and
//! outcome: around the SDK's HTTP client, so that no call can be forgotten and
//! each of the SDK's own retries counts. Changes nothing about them.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::{RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_types::config_bag::ConfigBag;

use crate::metrics::{CallLabels, Calls};

/// The same configuration, with every request counted.
pub fn watched(config: &SdkConfig, calls: Calls) -> SdkConfig {
    let Some(inner) = config.http_client() else { return config.clone() };
    config.clone().into_builder().http_client(Watched { inner, calls }).build()
}

#[derive(Debug)]
struct Watched<T> {
    inner: T,
    calls: Calls,
}

impl HttpClient for Watched<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(Watched { inner, calls: self.calls.clone() })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.inner.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.inner.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.inner.connector_metadata()
    }
}

impl HttpConnector for Watched<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let counted = Counted {
            calls: self.calls.clone(),
            service: service(&request),
            action: action(&request),
            outcome: "unanswered",
        };
        let answer = self.inner.call(request);
        HttpConnectorFuture::new(async move {
            // Moved in as a whole: it counts when it is dropped.
            let mut counted = counted;
            let mut response = answer.await?;
            counted.outcome = outcome(&mut response).await?;
            Ok(response)
        })
    }
}

/// Counts when it is dropped: also when the SDK gives a call up.
struct Counted {
    calls: Calls,
    service: &'static str,
    action: String,
    outcome: &'static str,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let labels = CallLabels {
            service: self.service,
            action: std::mem::take(&mut self.action),
            outcome: self.outcome,
        };
        self.calls.get_or_create(&labels).inc();
    }
}

const SERVICES: [&str; 6] = ["dynamodb", "elasticmapreduce", "redshift-data", "s3", "sns", "sqs"];

/// The service that the signature names.
fn service(request: &HttpRequest) -> &'static str {
    let scope = request.headers().get("authorization").unwrap_or_default();
    let name = scope.split('/').nth(3).unwrap_or_default();
    SERVICES.into_iter().find(|known| *known == name).unwrap_or("other")
}

/// `PutItem`, from the target or, in the query protocol, the body; for S3 the
/// method.
fn action(request: &HttpRequest) -> String {
    let target = request.headers().get("x-amz-target").and_then(|target| target.split('.').nth(1));
    let query = || {
        let body = std::str::from_utf8(request.body().bytes()?).ok()?;
        body.strip_prefix("Action=")?.split('&').next()
    };
    target.or_else(query).unwrap_or_else(|| request.method()).to_owned()
}

/// How the request was answered. The body of an error is read for its code,
/// and put back.
async fn outcome(response: &mut HttpResponse) -> Result<&'static str, ConnectorError> {
    let status = response.status().as_u16();
    if status < 400 {
        return Ok("ok");
    }
    let body = ByteStream::new(std::mem::replace(response.body_mut(), SdkBody::taken()));
    let body = body.collect().await.map_err(|error| ConnectorError::io(error.into()))?.into_bytes();
    let throttled = status == 429 || is_throttling(&error_code(&body));
    *response.body_mut() = SdkBody::from(body);
    Ok(match status {
        _ if throttled => "throttled",
        ..500 => "refused",
        _ => "failed",
    })
}

/// The code of an error, in JSON or in XML.
fn error_code(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct JsonError {
        #[serde(rename = "__type")]
        kind: String,
    }
    if let Ok(error) = serde_json::from_slice::<JsonError>(body) {
        return error.kind;
    }
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or_else(String::new, |(code, _)| code.to_owned())
}

fn is_throttling(code: &str) -> bool {
    ["Throttl", "TooManyRequests", "RequestLimitExceeded", "ThroughputExceeded", "SlowDown"]
        .iter()
        .any(|part| code.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_throttling_by_its_code() {
        for (body, throttled) in [
            (r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#, true),
            (
                r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}"#,
                true,
            ),
            (r#"{"__type":"x#ConditionalCheckFailedException","message":"Throttling"}"#, false),
            ("<Error><Code>SlowDown</Code></Error>", true),
            ("<Error><Code>NoSuchKey</Code></Error>", false),
            ("", false),
        ] {
            assert_eq!(is_throttling(&error_code(body.as_bytes())), throttled, "{body}");
        }
    }

    #[test]
    fn names_what_was_called() {
        let request = |headers: &[(&'static str, &'static str)], body: &'static str| {
            let mut request = HttpRequest::new(SdkBody::from(body));
            for (name, value) in headers {
                request.headers_mut().insert(*name, *value);
            }
            (service(&request), action(&request))
        };
        let signed = |service| {
            format!("AWS4-HMAC-SHA256 Credential=A/20130101/us-east-1/{service}/aws4_request, x")
        };
        let sns: &'static str = signed("sns").leak();
        let emr: &'static str = signed("elasticmapreduce").leak();
        assert_eq!(
            request(&[("authorization", emr), ("x-amz-target", "ElasticMapReduce.RunJobFlow")], ""),
            ("elasticmapreduce", "RunJobFlow".to_owned())
        );
        assert_eq!(
            request(&[("authorization", sns)], "Action=Publish&Version=2010-03-31"),
            ("sns", "Publish".to_owned())
        );
        assert_eq!(request(&[], ""), ("other", "GET".to_owned()));
    }
}
