//! `deploy-assets`: puts the scripts that clusters need where the configuration
//! says they lie.

use clap::Args;
use serde_json::json;

use super::output::Output;
use super::{AwsArgs, Failure};
use crate::aws::s3::S3;
use crate::config::Assets;

/// Name and content of each script.
const SCRIPTS: [(&str, &str); 1] =
    [(Assets::DEADLINE, include_str!("../../deploy/emr/deadline.sh"))];

/// Put the scripts that clusters need into S3, at [aws] assets
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate deploy-assets --config prod.toml\n\n\
    Needs s3:PutObject there, which the service itself does not. To be repeated after an upgrade.")]
pub struct DeployArgs {
    #[command(flatten)]
    aws: AwsArgs,
}

pub async fn deploy(args: &DeployArgs) -> Result<Output, Failure> {
    let session = args.aws.connect().await?;
    let Some(assets) = &session.config.settings.assets else {
        let text = "the configuration names no place for assets: add assets = \"s3://BUCKET/PREFIX/\" to [aws]";
        return Err(Failure::Use(text.to_owned()));
    };
    let s3 = S3::new(&session.aws);
    let mut put = Vec::new();
    for (name, script) in SCRIPTS {
        let key = format!("{}{name}", assets.prefix);
        s3.put(&assets.bucket, &key, script).await.map_err(|error| {
            Failure::Failed(format!(
                "cannot write {}: {error}\n    create the bucket, or correct assets or the permissions",
                assets.uri(name)
            ))
        })?;
        put.push(assets.uri(name));
    }
    Output::new(format!("put: {}", put.join(", ")), &json!({ "put": put }))
}
