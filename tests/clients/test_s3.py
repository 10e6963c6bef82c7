"""S3 as boto3 uses it: objects, uploads, listings, odd keys, refusals."""

from __future__ import annotations

import datetime
import io
import urllib.request

import boto3.s3.transfer
from support import Case, client, server


class Objects(Case):
    def setUp(self):
        self.s3 = client("s3")
        self.bucket = self.id().rsplit(".", 1)[1].replace("_", "-")[:63].rstrip("-")
        self.s3.create_bucket(
            Bucket=self.bucket,
            CreateBucketConfiguration={"LocationConstraint": "eu-west-1"},
        )

    def keys(self, **arguments) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, **arguments)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def test_an_object_comes_back_as_it_was_put(self):
        before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        put = self.s3.put_object(
            Bucket=self.bucket, Key="raw/a b.log", Body=b"hello",
            ContentType="text/x-log", Metadata={"origin": "jfk"},
        )  # fmt: skip
        self.assertEqual(put["ETag"], '"5d41402abc4b2a76b9719d911017c592"')
        self.assertNotIn("VersionId", put)
        got = self.s3.get_object(Bucket=self.bucket, Key="raw/a b.log")
        self.assertEqual(got["Body"].read(), b"hello")
        self.assertEqual((got["ContentType"], got["Metadata"]), ("text/x-log", {"origin": "jfk"}))
        head = self.s3.head_object(Bucket=self.bucket, Key="raw/a b.log")
        self.assertEqual((head["ContentLength"], head["ETag"]), (5, put["ETag"]))
        self.assertGreaterEqual(head["LastModified"], before)
        part = self.s3.get_object(Bucket=self.bucket, Key="raw/a b.log", Range="bytes=1-3")
        self.assertEqual((part["Body"].read(), part["ContentRange"]), (b"ell", "bytes 1-3/5"))
        tail = self.s3.get_object(Bucket=self.bucket, Key="raw/a b.log", Range="bytes=-2")
        self.assertEqual(tail["Body"].read(), b"lo")
        source = {"Bucket": self.bucket, "Key": "raw/a b.log"}
        copied = self.s3.copy_object(Bucket=self.bucket, Key="copy+1", CopySource=source)
        self.assertEqual(copied["CopyObjectResult"]["ETag"], put["ETag"])
        self.s3.copy(source, self.bucket, "managed-copy")
        self.assertEqual(self.keys(), ["copy+1", "managed-copy", "raw/a b.log"])

    def test_many_are_deleted_at_once(self):
        for key in ["a", "b", "c"]:
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=b"")
        objects = [{"Key": key} for key in ["a", "b", "never-there"]]
        deleted = self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects})
        found = [entry["Key"] for entry in deleted["Deleted"]]
        self.assertEqual(found, ["a", "b", "never-there"])
        self.s3.delete_object(Bucket=self.bucket, Key="c")
        self.s3.delete_bucket(Bucket=self.bucket)
        self.refused("404", self.s3.head_bucket, 404, Bucket=self.bucket)

    def test_listings_have_pages(self):
        names = [f"{day:02}/{hour:02}" for day in range(3) for hour in range(4)]
        for name in names:
            self.s3.put_object(Bucket=self.bucket, Key=name, Body=b"x")
        for size in [1, 5, 12, 1000]:
            self.assertEqual(self.keys(PaginationConfig={"PageSize": size}), names)
        self.assertEqual(self.keys(Prefix="01/", StartAfter="01/01"), ["01/02", "01/03"])
        old = self.s3.get_paginator("list_objects").paginate(
            Bucket=self.bucket, PaginationConfig={"PageSize": 5}
        )
        self.assertEqual([entry["Key"] for page in old for entry in page["Contents"]], names)
        folders = self.s3.list_objects_v2(Bucket=self.bucket, Delimiter="/")
        prefixes = [entry["Prefix"] for entry in folders["CommonPrefixes"]]
        self.assertEqual((prefixes, folders["KeyCount"]), (["00/", "01/", "02/"], 3))

    def test_every_key_is_an_object_of_its_own(self):
        keys = [
            "a", "a/b", "a/b/c", "a/", "a//b", "/lead", "x/./y", "x/z/../y", "nul\0", "tab\t",
            "q?x=1", "h#1", "p%2F1", "p/1", "plus+1", "space 1", "am&p", "<less>", "ü/日本",
            "~'()*!$,:;=@", "long/" + "x" * 300 + "/y", "k" * 1024, "back\\slash", "_temporary/x",
        ]  # fmt: skip
        for key in keys:
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=key.encode())
        self.assertEqual(self.keys(), sorted(keys))
        self.assertEqual(self.keys(PaginationConfig={"PageSize": 3}), sorted(keys))
        for key in keys:
            body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            self.assertEqual(body, key.encode(), key)
        plain = server().data / "s3" / self.bucket / "ü" / "日本"
        self.assertEqual(plain.read_text(), "ü/日本")
        # No XML can hold this one.
        self.s3.delete_object(Bucket=self.bucket, Key="nul\0")
        keys.remove("nul\0")
        objects = [{"Key": key} for key in keys]
        answer = self.s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects})
        self.assertEqual((len(answer["Deleted"]), self.keys()), (len(keys), []))

    def test_large_objects_go_up_and_down_in_parts(self):
        config = boto3.s3.transfer.TransferConfig(
            multipart_threshold=5 << 20, multipart_chunksize=5 << 20
        )
        content = bytes(range(256)) * (44 << 10)
        self.s3.upload_fileobj(io.BytesIO(content), self.bucket, "big", Config=config)
        head = self.s3.head_object(Bucket=self.bucket, Key="big")
        self.assertTrue(head["ETag"].endswith('-3"'), head["ETag"])
        back = io.BytesIO()
        self.s3.download_fileobj(self.bucket, "big", back, Config=config)
        self.assertEqual(back.getvalue(), content)

    def test_an_upload_can_be_given_up(self):
        start = self.s3.create_multipart_upload(Bucket=self.bucket, Key="k")
        upload = {"Bucket": self.bucket, "Key": "k", "UploadId": start["UploadId"]}
        part = self.s3.upload_part(PartNumber=1, Body=b"x", **upload)
        parts = self.s3.list_parts(**upload)["Parts"]
        self.assertEqual([(p["PartNumber"], p["ETag"]) for p in parts], [(1, part["ETag"])])
        uploads = self.s3.list_multipart_uploads(Bucket=self.bucket)["Uploads"]
        self.assertEqual([u["UploadId"] for u in uploads], [start["UploadId"]])
        wrong = {"Parts": [{"PartNumber": 1, "ETag": '"0"'}]}
        self.refused(
            "InvalidPart", self.s3.complete_multipart_upload, MultipartUpload=wrong, **upload
        )
        self.s3.abort_multipart_upload(**upload)
        self.refused("NoSuchUpload", self.s3.list_parts, 404, **upload)

    def test_presigned_addresses_work_without_credentials(self):
        target = {"Bucket": self.bucket, "Key": "signed/a b?c"}
        put = self.s3.generate_presigned_url("put_object", target)
        urllib.request.urlopen(urllib.request.Request(put, b"hello", method="PUT")).read()
        get = self.s3.generate_presigned_url("get_object", target)
        self.assertEqual(urllib.request.urlopen(get).read(), b"hello")

    def test_writes_can_be_conditional(self):
        target = {"Bucket": self.bucket, "Key": "k"}
        first = self.s3.put_object(Body=b"1", IfNoneMatch="*", **target)
        self.refused(
            "PreconditionFailed", self.s3.put_object, 412, Body=b"2", IfNoneMatch="*", **target
        )
        self.s3.put_object(Body=b"2", IfMatch=first["ETag"], **target)
        self.refused("304", self.s3.head_object, 304, IfNoneMatch='"c81e728d9d4c2f636f067f89cc14862c"', **target)

    def test_buckets_are_listed_with_their_region(self):
        listed = {bucket["Name"]: bucket for bucket in self.s3.list_buckets()["Buckets"]}
        self.assertIn(self.bucket, listed)
        self.assertEqual(listed[self.bucket]["CreationDate"].tzname(), "UTC")
        location = self.s3.get_bucket_location(Bucket=self.bucket)
        self.assertEqual(location["LocationConstraint"], "eu-west-1")

    def test_wrong_requests_are_refused_in_s3s_words(self):
        s3, bucket = self.s3, self.bucket
        s3.put_object(Bucket=bucket, Key="k", Body=b"hello")
        nowhere = {"Bucket": "nowhere-at-all"}
        europe = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
        for code, status, call, arguments in [
            ("NoSuchBucket", 404, s3.put_object, {**nowhere, "Key": "k", "Body": b""}),
            ("NoSuchBucket", 404, s3.get_object, {**nowhere, "Key": "k"}),
            ("NoSuchBucket", 404, s3.list_objects_v2, nowhere),
            ("NoSuchBucket", 404, s3.delete_object, {**nowhere, "Key": "k"}),
            ("NoSuchBucket", 404, s3.delete_bucket, nowhere),
            ("NoSuchBucket", 404, s3.get_bucket_location, nowhere),
            ("NoSuchBucket", 404, s3.get_bucket_notification_configuration, nowhere),
            ("NoSuchBucket", 404, s3.create_multipart_upload, {**nowhere, "Key": "k"}),
            ("404", 404, s3.head_bucket, nowhere),
            ("404", 404, s3.head_object, {"Bucket": bucket, "Key": "none"}),
            ("NoSuchKey", 404, s3.get_object, {"Bucket": bucket, "Key": "none"}),
            ("NoSuchKey", 404, s3.copy_object,
             {"Bucket": bucket, "Key": "x", "CopySource": f"{bucket}/none"}),
            ("BucketAlreadyOwnedByYou", 409, s3.create_bucket, {"Bucket": bucket, **europe}),
            ("BucketNotEmpty", 409, s3.delete_bucket, {"Bucket": bucket}),
            ("InvalidRange", 416, s3.get_object,
             {"Bucket": bucket, "Key": "k", "Range": "bytes=9-"}),
            ("KeyTooLongError", 400, s3.put_object,
             {"Bucket": bucket, "Key": "k" * 1025, "Body": b""}),
            ("InvalidArgument", 400, s3.list_objects_v2,
             {"Bucket": bucket, "ContinuationToken": "*"}),
            ("InvalidArgument", 400, s3.list_objects_v2, {"Bucket": bucket, "MaxKeys": -1}),
            ("MalformedXML", 400, s3.delete_objects,
             {"Bucket": bucket, "Delete": {"Objects": [{"Key": "nul\0"}]}}),
            ("BadDigest", 400, s3.put_object,
             {"Bucket": bucket, "Key": "k", "Body": b"x", "ContentMD5": "A" * 22 + "=="}),
            ("NoSuchUpload", 404, s3.upload_part,
             {"Bucket": bucket, "Key": "k", "UploadId": "none", "PartNumber": 1, "Body": b""}),
            ("PreconditionFailed", 412, s3.get_object,
             {"Bucket": bucket, "Key": "k", "IfMatch": '"0"'}),
            ("NotImplemented", 501, s3.get_bucket_website, {"Bucket": bucket}),
        ]:  # fmt: skip
            self.refused(code, call, status, **arguments)
        for name in ["Bad_Bucket", "ab", "1.2.3.4", "-lead", "two..dots"]:
            self.refused("InvalidBucketName", s3.create_bucket, 400, Bucket=name)
