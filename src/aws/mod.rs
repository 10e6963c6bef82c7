//! AWS, one service a file, behind concrete structs. The SDK's HTTP client is
//! the seam for tests and for the local AWS: nothing here knows of either.

pub mod emr;
pub mod error;
pub mod local;
pub mod redshift;
pub mod rights;
pub mod s3;
pub mod sns;
pub mod sqs;
pub mod store;
mod watch;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedHttpClient};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

use aws_types::service_config::ServiceConfigKey;

pub use error::AwsError;
pub use watch::watched;

/// Where AWS is.
#[derive(Debug, Clone, Default)]
pub struct Access {
    pub region: Option<String>,
    /// The endpoint of a local AWS; there, credentials are made up.
    pub local: Option<String>,
    /// The environment may name endpoints that are not AWS's own.
    pub overrides: bool,
}

/// Calls, with all that they carry, would go elsewhere than to AWS.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} would be asked at {endpoint}, not where AWS is asked: AWS_ENDPOINT_URL, its like for one \
     service, or endpoint_url in a profile says so\n    unset it, or allow it with --allow-endpoints",
    service.unwrap_or("every service")
)]
pub struct Overridden {
    service: Option<&'static str>,
    endpoint: String,
}

/// The ids of the services that are called, as AWS's SDKs know them, and of those that give
/// credentials.
const SERVICES: [&str; 9] =
    ["SQS", "DynamoDB", "EMR", "SNS", "S3", "Redshift Data", "STS", "SSO", "SSO OIDC"];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
/// A PutObject may carry 5 GB.
const LARGE_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Retries of calls that may be repeated; those that may not switch them off.
const ATTEMPTS_MAX: u32 = 3;

/// The SDK's configuration with explicit time-outs and retries.
pub async fn connect(access: &Access) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client())
        .retry_config(retries())
        .timeout_config(timeouts());
    if let Some(region) = &access.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &access.local {
        loader = loader
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new("local", "local", None, None, "local"));
        if access.region.is_none() {
            loader = loader.region(Region::new("us-east-1"));
        }
    }
    loader.load().await
}

/// Refuses endpoints that nobody has asked for by a switch of ours.
pub fn refuse_overrides(config: &SdkConfig, access: &Access) -> Result<(), Overridden> {
    if access.overrides || access.local.is_some() {
        return Ok(());
    }
    if let Some(endpoint) = config.endpoint_url() {
        return Err(Overridden { service: None, endpoint: endpoint.to_owned() });
    }
    for service in SERVICES {
        let key = ServiceConfigKey::builder()
            .service_id(service)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build();
        let found = key.ok().zip(config.service_config());
        if let Some(endpoint) = found.and_then(|(key, config)| config.load_config(key)) {
            return Err(Overridden { service: Some(service), endpoint });
        }
    }
    Ok(())
}

/// How often a call that may be repeated is tried.
pub fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX)
}

/// How long a call may take.
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

/// The same for calls that carry much.
pub fn patient(config: &SdkConfig) -> SdkConfig {
    let timeouts = timeouts().to_builder();
    let timeouts = timeouts
        .operation_attempt_timeout(LARGE_ATTEMPT_TIMEOUT)
        .operation_timeout(LARGE_ATTEMPT_TIMEOUT * 2);
    config.to_builder().timeout_config(timeouts.build()).build()
}

fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https()
}
