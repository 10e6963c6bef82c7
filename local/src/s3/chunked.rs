//! Takes apart bodies in the framing `aws-chunked`, in which clients send
//! uploads with a checksum at the end. Chunk signatures are not verified.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The framing is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed aws-chunked body")]
pub struct Malformed;

/// Whether a body with these headers is framed.
pub fn is_chunked(headers: &HeaderMap) -> bool {
    headers
        .get("x-amz-content-sha256")
        .is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-"))
}

/// Unwraps the body; headers at its end are moved to the others.
pub fn decode(headers: &mut HeaderMap, body: &Bytes) -> Result<Bytes, Malformed> {
    let (content, trailers) = split(body)?;
    headers.extend(trailers);
    headers.remove("x-amz-decoded-content-length");
    headers.remove("x-amz-trailer");
    headers.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
    // The encoding describes the transport; what else is listed stays.
    let rest: Vec<&str> = headers
        .get(CONTENT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|encoding| !encoding.is_empty() && *encoding != "aws-chunked")
        .collect();
    let rest = HeaderValue::from_str(&rest.join(",")).map_err(|_| Malformed)?;
    if rest.is_empty() {
        headers.remove(CONTENT_ENCODING);
    } else {
        headers.insert(CONTENT_ENCODING, rest);
    }
    Ok(content)
}

fn split(body: &Bytes) -> Result<(Bytes, HeaderMap), Malformed> {
    let mut content = BytesMut::with_capacity(body.len());
    let mut at = 0;
    loop {
        let line = line(body, &mut at)?;
        let size = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| Malformed)?;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size).ok_or(Malformed)?;
        content.extend_from_slice(body.get(at..end).ok_or(Malformed)?);
        at = end;
        if body.get(at..at + 2) != Some(b"\r\n") {
            return Err(Malformed);
        }
        at += 2;
    }
    let mut trailers = HeaderMap::new();
    while at < body.len() {
        let line = line(body, &mut at)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or(Malformed)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| Malformed)?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| Malformed)?;
        trailers.insert(name, value);
    }
    Ok((content.freeze(), trailers))
}

fn line<'a>(body: &'a Bytes, at: &mut usize) -> Result<&'a str, Malformed> {
    let rest = body.get(*at..).ok_or(Malformed)?;
    let length = rest.windows(2).position(|pair| pair == b"\r\n").ok_or(Malformed)?;
    *at += length + 2;
    std::str::from_utf8(&rest[..length]).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwraps_chunks_and_trailers() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip,aws-chunked"));
        let body = "5;chunk-signature=00\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
        let content = decode(&mut headers, &Bytes::from(body)).unwrap();
        assert_eq!(&content[..], b"hello world");
        assert_eq!(headers["x-amz-checksum-crc32"], "DUoRhQ==");
        assert_eq!(headers[CONTENT_ENCODING], "gzip");
        assert_eq!(headers[CONTENT_LENGTH], "11");
    }

    #[test]
    fn refuses_broken_framing() {
        for body in [
            "",
            "5\r\nhel",
            "z\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "0\r\nnocolon\r\n",
            "ffffffffffffffff\r\n",
        ] {
            let decoded = decode(&mut HeaderMap::new(), &Bytes::from(body));
            assert_eq!(decoded, Err(Malformed), "{body:?}");
        }
    }
}
