//! Location templates: `s3://bucket/rawdata/{yyyy}/{MM}/{dd}/{HH}/*` says which
//! keys belong to a dataset and to which partition. Matching is exact and
//! case-sensitive. Not for the arguments of steps (see `render`).

use std::fmt;

use super::partition::{Grain, Partition};

/// S3's own bounds.
const BUCKET_BYTES_MAX: usize = 255;
const KEY_BYTES_MAX: usize = 1024;

/// Where the objects of a dataset lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    bucket: String,
    parts: Vec<Part>,
    grain: Grain,
    /// Ends in `*`: any number of objects belong to a partition.
    many: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(Field),
}

impl Part {
    /// How many bytes of a key it stands for.
    fn width(&self) -> usize {
        match self {
            Part::Literal(text) => text.len(),
            Part::Field(field) => field.width(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    Hour,
}

impl Field {
    const ALL: [Field; 4] = [Field::Year, Field::Month, Field::Day, Field::Hour];

    fn name(self) -> &'static str {
        match self {
            Field::Year => "yyyy",
            Field::Month => "MM",
            Field::Day => "dd",
            Field::Hour => "HH",
        }
    }

    fn width(self) -> usize {
        self.name().len()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a location starts with s3://bucket/, this one does not")]
    NoBucket,
    #[error("there is no field {{{0}}}: a location knows {{yyyy}}, {{MM}}, {{dd}} and {{HH}}")]
    UnknownField(String),
    #[error("a {{ without its }}, or a }} without its {{")]
    Brace,
    #[error("* may only stand at the end, for \"every object under this\"")]
    Star,
    #[error(
        "a location needs {{yyyy}}, {{MM}} and {{dd}}, and {{HH}} for hourly data: {{{0}}} is missing"
    )]
    Missing(&'static str),
    #[error("the part after the bucket is empty")]
    EmptyKey,
    #[error(
        "a bucket has at most {BUCKET_BYTES_MAX} bytes and a key {KEY_BYTES_MAX}: no object can lie there"
    )]
    TooLong,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let rest = text.strip_prefix("s3://").ok_or(TemplateError::NoBucket)?;
        let (bucket, key) = rest.split_once('/').ok_or(TemplateError::NoBucket)?;
        if bucket.is_empty() || bucket.contains(['{', '}', '*']) {
            return Err(TemplateError::NoBucket);
        }
        if key.is_empty() {
            return Err(TemplateError::EmptyKey);
        }
        // A field is at most twice as long as what it stands for; a far longer
        // text is not worth reading.
        if key.len() > 2 * KEY_BYTES_MAX + 1 {
            return Err(TemplateError::TooLong);
        }
        let (key, many) = match key.strip_suffix('*') {
            Some(key) => (key, true),
            None => (key, false),
        };
        if key.contains('*') {
            return Err(TemplateError::Star);
        }
        let parts = parse_parts(key)?;
        let has = |field| parts.contains(&Part::Field(field));
        for field in [Field::Year, Field::Month, Field::Day] {
            if !has(field) {
                return Err(TemplateError::Missing(field.name()));
            }
        }
        let key_bytes: usize = parts.iter().map(Part::width).sum();
        if bucket.len() > BUCKET_BYTES_MAX || key_bytes > KEY_BYTES_MAX {
            return Err(TemplateError::TooLong);
        }
        let grain = if has(Field::Hour) { Grain::Hour } else { Grain::Day };
        Ok(Self { bucket: bucket.to_owned(), parts, grain, many })
    }

    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    pub fn grain(&self) -> Grain {
        self.grain
    }

    /// True when it ends in `*`.
    pub fn is_many(&self) -> bool {
        self.many
    }

    /// What every matching key starts with, up to the first field.
    pub fn literal_prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// The partition that a key (decoded, without its bucket) belongs to.
    pub fn matches(&self, key: &str) -> Option<Partition> {
        let [year, month, day, hour] = self.fields(key)?;
        let small = |value: Option<i16>| value.and_then(|value| i8::try_from(value).ok());
        Partition::of_civil(year?, small(month)?, small(day)?, small(hour))
    }

    /// Whether a key has the right form, but names a date or an hour that does
    /// not exist (2013-02-30) or lies beyond time (9999-12-31).
    pub fn names_no_date(&self, key: &str) -> bool {
        self.fields(key).is_some() && self.matches(key).is_none()
    }

    /// The fields' values in a key of the right form.
    fn fields(&self, key: &str) -> Option<[Option<i16>; 4]> {
        let mut rest = key;
        let mut found: [Option<i16>; 4] = [None; 4];
        for part in &self.parts {
            match part {
                Part::Literal(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Field(field) => {
                    let digits = rest.get(..field.width())?;
                    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                        return None;
                    }
                    let value = digits.parse().ok()?;
                    let slot = &mut found[*field as usize];
                    // A field may stand twice (dt=2013-01-01/log-2013-01-01.gz);
                    // both must say the same.
                    if slot.is_some_and(|earlier| earlier != value) {
                        return None;
                    }
                    *slot = Some(value);
                    rest = &rest[field.width()..];
                }
            }
        }
        // "Every object under this" does not mean the folder marker itself.
        if self.many == rest.is_empty() {
            return None;
        }
        Some(found)
    }

    /// What `*` stands for in a key that matches.
    pub fn rest<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.get(self.parts.iter().map(Part::width).sum()..)
    }

    /// The key of a partition; for `*` templates the prefix its objects share.
    pub fn key_of(&self, partition: &Partition) -> String {
        let civil = partition.civil();
        self.parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.clone(),
                Part::Field(Field::Year) => format!("{:04}", civil.year()),
                Part::Field(Field::Month) => format!("{:02}", civil.month()),
                Part::Field(Field::Day) => format!("{:02}", civil.day()),
                Part::Field(Field::Hour) => format!("{:02}", civil.hour()),
            })
            .collect()
    }

    /// `s3://bucket/key` of a partition; for `*` templates of its prefix.
    pub fn uri_of(&self, partition: &Partition) -> String {
        format!("s3://{}/{}", self.bucket, self.key_of(partition))
    }
}

fn parse_parts(key: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = key;
    while let Some(open) = rest.find(['{', '}']) {
        let (literal, field) = rest.split_at(open);
        let close =
            field.find('}').filter(|_| field.starts_with('{')).ok_or(TemplateError::Brace)?;
        let name = &field[1..close];
        if name.contains('{') {
            return Err(TemplateError::Brace);
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.to_owned()));
        }
        let field = Field::ALL.into_iter().find(|field| field.name() == name);
        parts.push(Part::Field(field.ok_or_else(|| TemplateError::UnknownField(name.to_owned()))?));
        rest = &rest[open + close + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.to_owned()));
    }
    Ok(parts)
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/", self.bucket)?;
        for part in &self.parts {
            match part {
                Part::Literal(text) => f.write_str(text)?,
                Part::Field(field) => write!(f, "{{{}}}", field.name())?,
            }
        }
        f.write_str(if self.many { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matched(template: &str, key: &str) -> Option<String> {
        Template::parse(template).unwrap().matches(key).map(|partition| partition.to_string())
    }

    #[test]
    fn matches_exactly_and_case_sensitively() {
        let raw = "s3://b/rawdata/{yyyy}/{MM}/{dd}/{HH}/*";
        let twice = "s3://b/dt={yyyy}-{MM}-{dd}/log-{yyyy}{MM}{dd}.gz";
        for (template, key, expected) in [
            (raw, "rawdata/2013/01/01/05/s-1.gz", Some("2013-01-01T05")),
            (raw, "rawdata/2013/01/01/05/deep/er", Some("2013-01-01T05")),
            (raw, "rawdata/2013/01/01/05/", None),
            (raw, "Rawdata/2013/01/01/05/s-1.gz", None),
            (raw, "rawdata/2013/02/30/05/s-1.gz", None),
            (raw, "rawdata/2013/01/01/24/s-1.gz", None),
            (raw, "rawdata/2013/1/01/05/s-1.gz", None),
            (raw, "rawdata/+013/01/01/05/s-1.gz", None),
            (raw, "rawdata/20é3/01/01/05/s-1.gz", None),
            (raw, "", None),
            (twice, "dt=2013-01-01/log-20130101.gz", Some("2013-01-01")),
            (twice, "dt=2013-01-01/log-20130102.gz", None),
            (twice, "dt=2013-01-01/log-20130101.gz.tmp", None),
            ("s3://b/{yyyy}{MM}{dd}", "99991230", Some("9999-12-30")),
        ] {
            assert_eq!(matched(template, key).as_deref(), expected, "{template} {key}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, error) in [
            ("rawdata/{yyyy}", TemplateError::NoBucket),
            ("s3://bucket", TemplateError::NoBucket),
            ("s3:///{yyyy}", TemplateError::NoBucket),
            ("s3://b/", TemplateError::EmptyKey),
            ("s3://b/{yyyy}/{mm}/{dd}", TemplateError::UnknownField("mm".into())),
            ("s3://b/{yyyy", TemplateError::Brace),
            ("s3://b/yyyy}", TemplateError::Brace),
            ("s3://b/{{yyyy}}", TemplateError::Brace),
            ("s3://b/*/{yyyy}", TemplateError::Star),
            ("s3://b/{yyyy}/{dd}", TemplateError::Missing("MM")),
        ] {
            assert_eq!(Template::parse(text).unwrap_err(), error, "{text}");
        }
        let of = |bytes: usize| format!("s3://b/{{yyyy}}{{MM}}{{dd}}{}*", "x".repeat(bytes - 8));
        assert!(Template::parse(&of(KEY_BYTES_MAX)).is_ok());
        assert_eq!(Template::parse(&of(KEY_BYTES_MAX + 1)).unwrap_err(), TemplateError::TooLong);
    }

    #[test]
    fn tells_an_impossible_date_from_another_form() {
        let template = Template::parse("s3://b/raw/{yyyy}/{MM}/{dd}/{HH}/*").unwrap();
        for (key, misdated) in [
            ("raw/2013/02/30/05/x", true),
            ("raw/2013/01/01/24/x", true),
            // Beyond the last instant that we can name.
            ("raw/9999/12/31/05/x", true),
            ("raw/9999/12/30/05/x", false),
            ("raw/2013/1/01/05/x", false),
            ("other/2013/02/30/05/x", false),
        ] {
            assert_eq!(template.names_no_date(key), misdated, "{key}");
        }
        assert_eq!(template.rest("raw/2013/01/01/05/_SUCCESS"), Some("_SUCCESS"));
    }

    /// Fields and literals in any order, at times with a star.
    fn template() -> impl Strategy<Value = String> {
        let fields = vec!["{yyyy}", "{MM}", "{dd}", "{HH}"];
        let part = prop_oneof![
            2 => proptest::sample::select(fields).prop_map(str::to_owned),
            1 => "[a-z0-9/=é-]{1,6}",
        ];
        let parts = proptest::collection::vec(part, 3..9).prop_map(|parts| parts.concat());
        let whole = ("[{}yMdH*a-z/é]{0,40}", parts)
            .prop_flat_map(|(junk, parts)| prop_oneof![1 => Just(junk), 4 => Just(parts)]);
        (whole, any::<bool>())
            .prop_map(|(whole, many)| format!("s3://b/{whole}{}", if many { "*" } else { "" }))
    }

    proptest! {
        #[test]
        fn no_text_panics(template in "\\PC{0,40}", text in template(), key in "\\PC{0,60}") {
            for text in [template, text] {
                if let Ok(template) = Template::parse(&text) {
                    template.names_no_date(&key);
                    template.rest(&key);
                }
            }
        }

        #[test]
        fn a_rendered_key_matches_its_partition_and_no_other(
            text in template(), rest in "[0-9a-z/]{1,9}", secs in 0i64..250_000_000_000,
        ) {
            let Ok(template) = Template::parse(&text) else { return Ok(()) };
            let instant = jiff::Timestamp::from_second(secs).unwrap();
            let partition = Partition::containing(instant, template.grain());
            let prefix = template.key_of(&partition);
            let key = if template.is_many() { format!("{prefix}{rest}") } else { prefix };
            prop_assert_eq!(template.matches(&key), Some(partition));
            let after = if template.is_many() { rest.as_str() } else { "" };
            prop_assert_eq!(template.rest(&key), Some(after));
            prop_assert_eq!(template.to_string(), text);
        }
    }
}
