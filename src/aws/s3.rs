//! S3: reads small objects (task files, logs of steps) and lists prefixes. The
//! data itself is never read: that is the cluster's work.

use aws_config::SdkConfig;

use super::error::{AwsError, Kind};

#[derive(Debug, Clone)]
pub struct S3 {
    client: aws_sdk_s3::Client,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub etag: String,
    pub bytes: u64,
}

/// An object as HeadObject shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub etag: String,
    /// None where the bucket keeps no versions.
    pub version: Option<String>,
    pub bytes: u64,
}

impl S3 {
    pub fn new(config: &SdkConfig) -> Self {
        // A local AWS has no host names for buckets.
        let builder = aws_sdk_s3::config::Builder::from(config);
        let builder = builder.force_path_style(config.endpoint_url().is_some());
        Self { client: aws_sdk_s3::Client::from_conf(builder.build()) }
    }

    /// All objects under a prefix, in the order of their keys, at most `limit`.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<Listed>, AwsError> {
        let request = self.client.list_objects_v2().bucket(bucket).prefix(prefix);
        let mut pages = request.into_paginator().send();
        let mut listed = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsError::new("S3", "ListObjectsV2", &error))?;
            listed.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| {
                Some(Listed {
                    key: object.key?,
                    etag: object.e_tag.unwrap_or_default(),
                    bytes: u64::try_from(object.size.unwrap_or(0)).unwrap_or(0),
                })
            }));
            if listed.len() >= limit {
                break;
            }
        }
        listed.truncate(limit);
        Ok(listed)
    }

    /// What S3 knows of an object; None if there is no such object.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<Option<Head>, AwsError> {
        match self.client.head_object().bucket(bucket).key(key).send().await {
            Ok(answer) => Ok(Some(Head {
                etag: answer.e_tag.unwrap_or_default().trim_matches('"').to_owned(),
                version: answer.version_id,
                bytes: u64::try_from(answer.content_length.unwrap_or(0)).unwrap_or(0),
            })),
            Err(error) => match AwsError::new("S3", "HeadObject", &error) {
                error if error.kind == Kind::NotFound => Ok(None),
                error => Err(error),
            },
        }
    }

    /// The last `bytes_max` bytes of an object; None if there is no such object.
    pub async fn tail(
        &self,
        bucket: &str,
        key: &str,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, AwsError> {
        let request = self.client.get_object().bucket(bucket).key(key);
        let answer = match request.range(format!("bytes=-{bytes_max}")).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = AwsError::new("S3", "GetObject", &error);
                return match error.message.starts_with("NoSuchKey") {
                    true => Ok(None),
                    // An empty object has no range.
                    false if error.message.starts_with("InvalidRange") => Ok(Some(Vec::new())),
                    false => Err(error),
                };
            }
        };
        let body = answer.body.collect().await.map_err(|error| AwsError {
            service: "S3",
            action: "GetObject",
            kind: Kind::Unknown,
            message: error.to_string(),
        })?;
        Ok(Some(body.to_vec()))
    }
}

/// `s3://bucket/key` (also `s3n`, `s3a`) taken apart.
pub fn split_uri(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once("://")?;
    if !matches!(scheme, "s3" | "s3n" | "s3a") {
        return None;
    }
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    (!bucket.is_empty()).then_some((bucket, key))
}
