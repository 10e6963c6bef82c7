//! `health`: asks a running service whether it lives. It is the health check of
//! the container, whose image has no other program. Not for what keeps the
//! service from its work: `/readyz` says that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axum::http::{StatusCode, Uri};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

use super::output::{self, Output};
use super::{ConfigArgs, Failure};
use crate::aws::error::with_causes;
use crate::config::Listen;

/// The image gives the command 5 s, and it has to start and end in them.
const TIMEOUT: Duration = Duration::from_secs(4);
/// The service says in one line which loops hang.
const ANSWER_BYTES_MAX: usize = 4096;

/// Ask a running service whether it lives: exit code 0 if it does, else 1
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate health --config prod.toml\n  \
    sluicegate health --http 127.0.0.1:9100 --json\n\n\
    Asks /healthz where `run` serves it: at --http, SLUICEGATE_HTTP or [http] listen of the \
    file. 200 is alive; another answer, or none within 4 seconds, is not.")]
pub struct HealthArgs {
    /// Where the service serves health; default: [http] listen of the file
    #[arg(long, env = "SLUICEGATE_HTTP", value_name = "ADDRESS")]
    http: Option<Listen>,
    /// The TOML file; not needed with --http
    #[arg(long, env = "SLUICEGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub async fn health(args: &HealthArgs, json: bool) -> Result<Output, Failure> {
    let address = address(args)?;
    let answer = match tokio::time::timeout(TIMEOUT, ask(address)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} seconds", TIMEOUT.as_secs())),
    };
    match answer {
        Ok(()) => Output::new(
            format!("healthy: {address}"),
            &json!({ "healthy": true, "address": address }),
        ),
        Err(problem) => {
            let words = format!("not healthy: {address}: {problem}");
            if !json {
                return Err(Failure::Failed(words));
            }
            let found = json!({ "healthy": false, "address": address, "problem": problem });
            let answer = Box::new(Output::new("", &found)?);
            Err(Failure::Unsuccessful { answer, words })
        }
    }
}

/// Where to ask: what `run` listens at, as a client reaches it.
fn address(args: &HealthArgs) -> Result<SocketAddr, Failure> {
    let listen = match args.http {
        Some(listen) => listen,
        None => ConfigArgs { config: args.config.clone() }.load()?.settings.http.listen,
    };
    let mut address = match listen {
        Listen::At(address) => address,
        Listen::Off => {
            return Err(Failure::Use(
                "health and metrics are off: let the service listen ([http] listen, or --http and \
                 SLUICEGATE_HTTP for both), or ask without it: sluicegate status"
                    .to_owned(),
            ));
        }
    };
    if address.port() == 0 {
        return Err(Failure::Use(format!(
            "{address} stands for any free port: name the one that the service's log tells, --http \
             ADDRESS"
        )));
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

/// Why the service does not live, if so.
async fn ask(address: SocketAddr) -> Result<(), String> {
    let uri: Uri = format!("http://{address}/healthz")
        .parse()
        .map_err(|error| format!("cannot be asked: {error}"))?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = client.get(uri).await.map_err(|error| with_causes(&error))?;
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(());
    }
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    // What it says besides the status only helps people.
    let said = body.map(|body| body.to_bytes()).unwrap_or_default();
    let said = output::plain(String::from_utf8_lossy(&said).trim());
    Err(format!("it answers {} {said}", status.as_u16()).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(http: &str) -> Result<String, String> {
        let args = HealthArgs { http: Some(http.parse().unwrap()), config: None };
        address(&args).map(|address| address.to_string()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_service_that_listens_everywhere_is_asked_here() {
        for (listen, asked_at) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0.0.0.0:9100", "127.0.0.1:9100"),
            ("[::]:9100", "[::1]:9100"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(asked(listen).unwrap(), asked_at);
        }
    }

    #[test]
    fn what_cannot_be_asked_says_what_to_do() {
        assert!(asked("off").unwrap_err().contains("sluicegate status"));
        assert!(asked("127.0.0.1:0").unwrap_err().contains("name the one that the service's log"));
    }
}
