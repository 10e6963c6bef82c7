//! The operations of S3's protocol on our buckets: shapes in, shapes out. What
//! the operations do is up to `Buckets`; the wire format is the library's.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::buckets::Buckets;
use super::conversion::{
    check_read, collect, encoded, from_token, is_met, part_number, source, timestamp, to_token,
};
use super::list::{Query, page};
use super::notify::Change;
use super::store::{Description, StoreError};
use super::uploads::Upload;
use super::{Operation, SignedRegion, checksums, configuration};
use crate::wire;

/// S3's page size.
const PAGE: i32 = 1000;

/// The library's view of our buckets.
pub struct Protocol {
    buckets: Arc<Buckets>,
}

impl Protocol {
    pub fn new(buckets: Arc<Buckets>) -> Self {
        Self { buckets }
    }
}

/// Lets everybody in, and notes what they want.
pub struct Everybody;

#[async_trait::async_trait]
impl S3Access for Everybody {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let name = context.s3_op().name().to_owned();
        if let Some(operation) = context.extensions_mut().get::<Operation>() {
            // Set once for a request; a second name would be the same.
            let _ = operation.0.set(name);
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl S3 for Protocol {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let signed = request.extensions.get::<SignedRegion>();
        let signed = signed.map_or("us-east-1", |region| region.0.as_str()).to_owned();
        let constraint = request.input.create_bucket_configuration;
        let constraint = constraint.and_then(|configuration| configuration.location_constraint);
        let region = constraint.map_or(signed, |constraint| constraint.as_str().to_owned());
        match self.buckets.store().create_bucket(&request.input.bucket, &region) {
            // S3's oldest region, and only this, forgives the owner.
            Err(StoreError::BucketExists) if region == "us-east-1" => {}
            other => other?,
        }
        let location = Some(format!("/{}", request.input.bucket));
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let bucket = self.buckets.store().bucket(&request.input.bucket)?;
        let bucket_region = Some(bucket.region);
        Ok(S3Response::new(HeadBucketOutput { bucket_region, ..Default::default() }))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let bucket = self.buckets.store().bucket(&request.input.bucket)?;
        // S3's oldest region has no name here.
        let named = Some(bucket.region).filter(|region| region != "us-east-1");
        let location_constraint = named.map(BucketLocationConstraint::from);
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
    }

    async fn list_buckets(
        &self,
        _: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.buckets.store().buckets()?;
        let buckets = buckets.into_iter().map(|(name, bucket)| Bucket {
            name: Some(name),
            creation_date: Some(timestamp(bucket.created)),
            bucket_region: Some(bucket.region),
        });
        let buckets = Some(buckets.collect());
        Ok(S3Response::new(ListBucketsOutput { buckets, ..Default::default() }))
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.buckets.store().delete_bucket(&request.input.bucket)?;
        Ok(S3Response::with_status(DeleteBucketOutput {}, StatusCode::NO_CONTENT))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let body = collect(input.body).await?;
        checksums::verify(&request.headers, &body)?;
        self.check_conditions(&input.bucket, &input.key, &input.if_match, &input.if_none_match)?;
        let description = Description {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            cache_control: input.cache_control,
            content_disposition: input.content_disposition,
            user: input.metadata.unwrap_or_default().into_iter().collect(),
        };
        let (bucket, key) = (&input.bucket, &input.key);
        let object = self.buckets.put(bucket, key, &body, description, Change::Put)?;
        let e_tag = Some(ETag::Strong(object.etag));
        Ok(S3Response::new(PutObjectOutput { e_tag, ..Default::default() }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let (object, content) = self.buckets.store().read(&input.bucket, &input.key)?;
        check_read(&object, &input.if_match, &input.if_none_match)?;
        let content = Bytes::from(content);
        let total = content.len() as u64;
        let (content, content_range) = match input.range {
            Some(range) => {
                let range = range.check(total)?;
                let shown = format!("bytes {}-{}/{total}", range.start, range.end - 1);
                // Within the content, whose length is a usize.
                (content.slice(range.start as usize..range.end as usize), Some(shown))
            }
            None => (content, None),
        };
        let status = content_range.is_some().then_some(StatusCode::PARTIAL_CONTENT);
        let about = object.description;
        let output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(content.len() as i64),
            body: Some(StreamingBlob::from(s3s::Body::from(content))),
            content_range,
            content_type: input.response_content_type.or(about.content_type),
            content_encoding: about.content_encoding,
            cache_control: about.cache_control,
            content_disposition: about.content_disposition,
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(timestamp(object.last_modified)),
            metadata: Some(about.user.into_iter().collect()),
            ..Default::default()
        };
        Ok(match status {
            Some(status) => S3Response::with_status(output, status),
            None => S3Response::new(output),
        })
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let object = self.buckets.store().head(&input.bucket, &input.key)?;
        check_read(&object, &input.if_match, &input.if_none_match)?;
        let about = object.description;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(object.stamp.size as i64),
            content_type: about.content_type,
            content_encoding: about.content_encoding,
            cache_control: about.cache_control,
            content_disposition: about.content_disposition,
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(timestamp(object.last_modified)),
            metadata: Some(about.user.into_iter().collect()),
            ..Default::default()
        }))
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = request.input;
        let (source_bucket, source_key) = source(&input.copy_source)?;
        let (source, content) = self.buckets.store().read(source_bucket, source_key)?;
        let replace = input.metadata_directive.as_ref().is_some_and(|d| d.as_str() == "REPLACE");
        let description = if replace {
            Description {
                content_type: input.content_type,
                content_encoding: input.content_encoding,
                cache_control: input.cache_control,
                content_disposition: input.content_disposition,
                user: input.metadata.unwrap_or_default().into_iter().collect(),
            }
        } else {
            source.description
        };
        let (bucket, key) = (&input.bucket, &input.key);
        let object = self.buckets.put(bucket, key, &content, description, Change::Copy)?;
        let result = CopyObjectResult {
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(timestamp(object.last_modified)),
            ..Default::default()
        };
        let copy_object_result = Some(result);
        Ok(S3Response::new(CopyObjectOutput { copy_object_result, ..Default::default() }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.buckets.delete(&request.input.bucket, &request.input.key)?;
        let output = DeleteObjectOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        self.buckets.store().bucket(&input.bucket)?;
        if input.delete.objects.iter().any(|object| !object.key.chars().all(wire::is_xml)) {
            return Err(s3_error!(MalformedXML));
        }
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            match self.buckets.delete(&input.bucket, &object.key) {
                Ok(()) => {
                    let key = Some(object.key);
                    deleted.push(DeletedObject { key, ..Default::default() });
                }
                Err(error) => {
                    let error = S3Error::from(error);
                    errors.push(Error {
                        code: Some(error.code().as_str().to_owned()),
                        key: Some(object.key),
                        message: error.message().map(str::to_owned),
                        ..Default::default()
                    });
                }
            }
        }
        let deleted = (!input.delete.quiet.unwrap_or(false)).then_some(deleted);
        let errors = Some(errors);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, errors, ..Default::default() }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let after = input.continuation_token.as_deref().map(from_token).transpose()?;
        let listing = self.list(&Listing {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: after.as_deref().or(input.start_after.as_deref()),
            limit: input.max_keys,
            encoding: input.encoding_type.as_ref(),
        })?;
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket.clone()),
            key_count: Some(listing.entries),
            max_keys: Some(input.max_keys.unwrap_or(PAGE)),
            is_truncated: Some(listing.next.is_some()),
            next_continuation_token: listing.next.as_deref().map(to_token),
            contents: Some(listing.contents),
            common_prefixes: Some(listing.common_prefixes),
            prefix: Some(input.prefix.unwrap_or_default()),
            delimiter: input.delimiter,
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let listing = self.list(&Listing {
            bucket: &input.bucket,
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: input.marker.as_deref(),
            limit: input.max_keys,
            encoding: input.encoding_type.as_ref(),
        })?;
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket.clone()),
            max_keys: Some(input.max_keys.unwrap_or(PAGE)),
            is_truncated: Some(listing.next.is_some()),
            next_marker: listing.next,
            contents: Some(listing.contents),
            common_prefixes: Some(listing.common_prefixes),
            prefix: Some(input.prefix.unwrap_or_default()),
            delimiter: input.delimiter,
            marker: input.marker,
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        self.buckets.store().bucket(&input.bucket)?;
        super::keys::check(&input.key).map_err(StoreError::from)?;
        let upload_id = self.buckets.uploads().create(&Upload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            description: Description {
                content_type: input.content_type,
                content_encoding: input.content_encoding,
                cache_control: input.cache_control,
                content_disposition: input.content_disposition,
                user: input.metadata.unwrap_or_default().into_iter().collect(),
            },
        })?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let body = collect(input.body).await?;
        checksums::verify(&request.headers, &body)?;
        let uploads = self.buckets.uploads();
        uploads.get(&input.upload_id, &input.bucket, &input.key)?;
        let part = uploads.put_part(&input.upload_id, part_number(input.part_number)?, &body)?;
        let e_tag = Some(ETag::Strong(part.etag));
        Ok(S3Response::new(UploadPartOutput { e_tag, ..Default::default() }))
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = request.input;
        let (source_bucket, source_key) = source(&input.copy_source)?;
        let (_, mut content) = self.buckets.store().read(source_bucket, source_key)?;
        if let Some(range) = &input.copy_source_range {
            let range = Range::parse(range).map_err(|_| s3_error!(InvalidArgument))?;
            let range = range.check(content.len() as u64)?;
            // Within the content, whose length is a usize.
            content = content[range.start as usize..range.end as usize].to_vec();
        }
        let uploads = self.buckets.uploads();
        uploads.get(&input.upload_id, &input.bucket, &input.key)?;
        let part = uploads.put_part(&input.upload_id, part_number(input.part_number)?, &content)?;
        let result = CopyPartResult { e_tag: Some(ETag::Strong(part.etag)), ..Default::default() };
        let copy_part_result = Some(result);
        Ok(S3Response::new(UploadPartCopyOutput { copy_part_result, ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let uploads = self.buckets.uploads();
        let upload = uploads.get(&input.upload_id, &input.bucket, &input.key)?;
        self.check_conditions(&input.bucket, &input.key, &input.if_match, &input.if_none_match)?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let parts: S3Result<Vec<(u16, String)>> = parts
            .into_iter()
            .map(|part| {
                let number = part_number(part.part_number.unwrap_or_default())?;
                let etag = part.e_tag.map(ETag::into_value).unwrap_or_default();
                Ok((number, etag))
            })
            .collect();
        let (file, etag) = uploads.assemble(&input.upload_id, &parts?)?;
        let (bucket, key) = (&input.bucket, &input.key);
        let change = Change::CompleteMultipartUpload;
        let object = self.buckets.put_file(bucket, key, &file, etag, upload.description, change)?;
        uploads.remove(&input.upload_id)?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            location: Some(format!("/{bucket}/{key}")),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(object.etag)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        let uploads = self.buckets.uploads();
        uploads.get(&input.upload_id, &input.bucket, &input.key)?;
        uploads.remove(&input.upload_id)?;
        let output = AbortMultipartUploadOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let uploads = self.buckets.uploads();
        uploads.get(&input.upload_id, &input.bucket, &input.key)?;
        let parts = uploads.parts(&input.upload_id)?;
        let parts = parts.into_iter().map(|(number, part)| Part {
            part_number: Some(i32::from(number)),
            size: Some(part.size as i64),
            e_tag: Some(ETag::Strong(part.etag)),
            ..Default::default()
        });
        Ok(S3Response::new(ListPartsOutput {
            parts: Some(parts.collect()),
            is_truncated: Some(false),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            ..Default::default()
        }))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let bucket = request.input.bucket;
        self.buckets.store().bucket(&bucket)?;
        let uploads = self.buckets.uploads().list()?;
        let uploads = uploads.into_iter().filter(|(_, upload)| upload.bucket == bucket).map(
            |(id, upload)| MultipartUpload {
                key: Some(upload.key),
                upload_id: Some(id),
                ..Default::default()
            },
        );
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(uploads.collect()),
            is_truncated: Some(false),
            bucket: Some(bucket),
            ..Default::default()
        }))
    }

    async fn put_bucket_notification_configuration(
        &self,
        request: S3Request<PutBucketNotificationConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketNotificationConfigurationOutput>> {
        let input = request.input;
        let new = configuration::parse(input.notification_configuration)?;
        if !input.skip_destination_validation.unwrap_or(false)
            && let Some(rule) = new.rules.iter().find(|r| !self.buckets.can_reach(&r.target_arn))
        {
            return Err(s3_error!(
                InvalidArgument,
                "Unable to validate the following destination configurations: {}",
                rule.target_arn
            ));
        }
        self.buckets.set_notifications(&input.bucket, new)?;
        Ok(S3Response::new(PutBucketNotificationConfigurationOutput::default()))
    }

    async fn get_bucket_notification_configuration(
        &self,
        request: S3Request<GetBucketNotificationConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
        let bucket = self.buckets.store().bucket(&request.input.bucket)?;
        Ok(S3Response::new(configuration::show(bucket.notifications)))
    }
}

/// What both versions of the listing ask for.
struct Listing<'a> {
    bucket: &'a str,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    after: Option<&'a str>,
    limit: Option<i32>,
    encoding: Option<&'a EncodingType>,
}

/// What both versions of the listing answer.
struct Listed {
    contents: Vec<Object>,
    common_prefixes: Vec<CommonPrefix>,
    entries: i32,
    next: Option<String>,
}

impl Protocol {
    fn list(&self, listing: &Listing<'_>) -> S3Result<Listed> {
        let store = self.buckets.store();
        let stamps = store.stamps(listing.bucket, listing.prefix)?;
        let limit = listing.limit.unwrap_or(PAGE);
        if limit < 0 {
            return Err(s3_error!(
                InvalidArgument,
                "Argument maxKeys must be an integer between 0 and 2147483647"
            ));
        }
        let query = Query {
            prefix: listing.prefix,
            delimiter: listing.delimiter,
            after: listing.after,
            limit: usize::try_from(limit.min(PAGE)).unwrap_or_default(),
        };
        let page = page(stamps.keys().map(String::as_str), &query);
        let encode = |text: &str| encoded(text, listing.encoding);
        let mut contents = Vec::new();
        for key in &page.keys {
            // Files may go while we list: Spark renames and removes them.
            let Ok(object) = store.head(listing.bucket, key) else {
                continue;
            };
            contents.push(Object {
                key: Some(encode(key)),
                size: Some(object.stamp.size as i64),
                e_tag: Some(ETag::Strong(object.etag)),
                last_modified: Some(timestamp(object.last_modified)),
                storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
                ..Default::default()
            });
        }
        let prefixes = page.common_prefixes.iter();
        Ok(Listed {
            contents,
            common_prefixes: prefixes
                .map(|prefix| CommonPrefix { prefix: Some(encode(prefix)) })
                .collect(),
            // At most a page, which is 1000.
            entries: page.entries() as i32,
            next: page.next.map(str::to_owned),
        })
    }

    /// Conditional writes: only over a certain object, or over none.
    fn check_conditions(
        &self,
        bucket: &str,
        key: &str,
        if_match: &Option<ETagCondition>,
        if_none_match: &Option<ETagCondition>,
    ) -> S3Result<()> {
        if if_match.is_none() && if_none_match.is_none() {
            return Ok(());
        }
        let existing = match self.buckets.store().head(bucket, key) {
            Ok(object) => Some(object),
            Err(StoreError::NoSuchKey) => None,
            Err(error) => return Err(error.into()),
        };
        let meets = |condition: &ETagCondition| {
            existing.as_ref().is_some_and(|object| is_met(condition, object))
        };
        let wanted = if_match.as_ref().is_none_or(meets);
        if wanted && !if_none_match.as_ref().is_some_and(meets) {
            Ok(())
        } else {
            Err(s3_error!(PreconditionFailed))
        }
    }
}
