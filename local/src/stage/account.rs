//! A client of the local AWS in its own process: builds the requests that an
//! operator's tools would send, so that they are answered and logged alike.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::cloud::Cloud;
use crate::wire::{Request, Response};

/// The account, as seen from one region.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    pub cloud: &'a Cloud,
    pub region: &'a str,
}

impl Account<'_> {
    /// An action of SQS.
    pub async fn sqs(&self, action: &str, body: Value) -> anyhow::Result<Value> {
        self.json("sqs", &format!("AmazonSQS.{action}"), &body).await
    }

    /// An action of EventBridge.
    pub async fn events(&self, action: &str, body: Value) -> anyhow::Result<Value> {
        self.json("events", &format!("AWSEvents.{action}"), &body).await
    }

    /// An action of SNS, in its Query protocol.
    pub async fn sns(&self, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action).extend_pairs(parameters);
        let mut headers = self.headers("sns")?;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
        self.send(action, Method::POST, "/", headers, form.finish().into()).await.map(drop)
    }

    /// PUT to S3: of a bucket, an object or a configuration.
    pub async fn s3_put(&self, path: &str, body: Bytes) -> anyhow::Result<()> {
        let headers = self.headers("s3")?;
        self.send(&format!("PUT {path}"), Method::PUT, path, headers, body).await.map(drop)
    }

    async fn json(&self, service: &str, target: &str, body: &Value) -> anyhow::Result<Value> {
        let mut headers = self.headers(service)?;
        headers.insert("x-amz-target", target.parse()?);
        let body = body.to_string().into();
        let response = self.send(target, Method::POST, "/", headers, body).await?;
        serde_json::from_slice(response.body())
            .with_context(|| format!("the answer to {target} is not JSON"))
    }

    /// The scope of the signature says which service is meant; nobody checks
    /// the rest.
    fn headers(&self, service: &str) -> anyhow::Result<HeaderMap> {
        let scope = format!("local/20130101/{}/{service}/aws4_request", self.region);
        let authorization = format!("AWS4-HMAC-SHA256 Credential={scope}");
        Ok(HeaderMap::from_iter([
            (HOST, HeaderValue::from_static("localhost")),
            (AUTHORIZATION, authorization.parse()?),
        ]))
    }

    async fn send(
        &self,
        what: &str,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> anyhow::Result<Response> {
        let uri = path.parse().with_context(|| format!("{path} is no address"))?;
        let response = self.cloud.handle(Request { method, uri, headers, body }).await;
        if !response.status().is_success() {
            let body = String::from_utf8_lossy(response.body());
            bail!("{what} was refused with {}: {body}", response.status());
        }
        Ok(response)
    }
}
