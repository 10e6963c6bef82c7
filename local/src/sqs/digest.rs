//! The MD5 that SQS answers for message attributes, so that clients which
//! check it are content. Not a security measure.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::queue::MessageAttributes;
use crate::ids::md5_hex;

/// The digest over names, types and values, each with its length, in order of
/// names; none without attributes.
pub fn attributes_md5(attributes: &MessageAttributes) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    for (name, attribute) in attributes {
        push(&mut bytes, name.as_bytes());
        push(&mut bytes, attribute.data_type.as_bytes());
        if let Some(text) = &attribute.string_value {
            bytes.push(1);
            push(&mut bytes, text.as_bytes());
        } else if let Some(binary) = &attribute.binary_value {
            bytes.push(2);
            push(&mut bytes, &BASE64_STANDARD.decode(binary).unwrap_or_default());
        }
    }
    Some(md5_hex(&bytes))
}

fn push(bytes: &mut Vec<u8>, part: &[u8]) {
    // No part is longer than a message, whose limit is 1 MiB.
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::super::queue::MessageAttribute;
    use super::*;

    #[test]
    fn is_the_one_aws_computes() {
        let attribute = MessageAttribute {
            data_type: "Number".to_owned(),
            string_value: Some("1493147359900".to_owned()),
            binary_value: None,
        };
        let attributes = MessageAttributes::from([("timestamp".to_owned(), attribute)]);
        // A value that AWS gave, as recorded in moto's tests.
        let expected = "235c5c510d26fb653d073faed50ae77c";
        assert_eq!(attributes_md5(&attributes).as_deref(), Some(expected));
        assert_eq!(attributes_md5(&MessageAttributes::new()), None);
    }
}
