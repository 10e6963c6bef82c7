//! COPY of real Parquet files out of the local S3 into real PostgreSQL.
