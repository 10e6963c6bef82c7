//! Which Parquet types a column of a table takes, and each value in PostgreSQL's
//! words. As on Redshift, nothing is converted: an `int64` is no INTEGER. Not for
//! reading files.

use jiff::civil::date;
use jiff::{SignedDuration, Span};
use parquet::basic::{ConvertedType, Type as Physical};
use parquet::schema::types::ColumnDescriptor;

use super::scan_error;
use crate::redshift::warehouse::SqlError;

/// A column of the table that is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As it is written in SQL.
    pub name: String,
    /// PostgreSQL's name of its type.
    pub type_name: String,
    /// PostgreSQL's `atttypmod`.
    pub modifier: i32,
}

/// How values of one column become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Plain,
    Date,
    /// Parts of a second in a unit, since 1970.
    Time {
        per_second: i64,
    },
    Decimal {
        scale: u32,
    },
    /// With the greatest length in bytes.
    Text {
        most: Option<usize>,
    },
    Bytes,
}

impl Target {
    /// How values of a Parquet column get into this one.
    pub fn form(&self, found: &ColumnDescriptor, file: &str) -> Result<Form, SqlError> {
        let form = if found.max_rep_level() > 0 || found.path().parts().len() > 1 {
            None
        } else {
            self.form_of(found)
        };
        form.ok_or_else(|| {
            let repetition = if found.max_def_level() > 0 { "optional" } else { "required" };
            let physical = match found.physical_type() {
                Physical::BOOLEAN => "boolean",
                Physical::INT32 => "int32",
                Physical::INT64 => "int64",
                Physical::INT96 => "int96",
                Physical::FLOAT => "float",
                Physical::DOUBLE => "double",
                Physical::BYTE_ARRAY => "byte_array",
                Physical::FIXED_LEN_BYTE_ARRAY => "fixed_len_byte_array",
            };
            scan_error(
                15007,
                &format!(
                    "File '{file}' has an incompatible Parquet schema for column '{}'. Column \
                     type: {}, Parquet schema:\\n{repetition} {physical} {} [d:{} r:{}]",
                    self.name,
                    self.redshift_type(),
                    found.path(),
                    found.max_def_level(),
                    found.max_rep_level()
                ),
            )
        })
    }

    fn form_of(&self, found: &ColumnDescriptor) -> Option<Form> {
        use ConvertedType as C;
        let mut meaning = found.converted_type();
        if meaning == C::NONE {
            meaning = C::from(found.logical_type_ref().cloned());
        }
        let is_decimal = meaning == C::DECIMAL;
        // The crate holds what it reads to 0 and more.
        let scale = u32::try_from(found.type_scale()).unwrap_or(0);
        match (self.type_name.as_str(), found.physical_type()) {
            ("bool", Physical::BOOLEAN) | ("float4", Physical::FLOAT) => Some(Form::Plain),
            ("float8", Physical::DOUBLE) => Some(Form::Plain),
            ("int2", Physical::INT32) => {
                matches!(meaning, C::INT_8 | C::INT_16).then_some(Form::Plain)
            }
            ("int4", Physical::INT32) => {
                matches!(meaning, C::NONE | C::INT_8 | C::INT_16 | C::INT_32).then_some(Form::Plain)
            }
            ("int8", Physical::INT64) => {
                matches!(meaning, C::NONE | C::INT_64).then_some(Form::Plain)
            }
            ("date", Physical::INT32) => (meaning == C::DATE).then_some(Form::Date),
            ("timestamp" | "timestamptz", Physical::INT96) => {
                Some(Form::Time { per_second: 1_000_000 })
            }
            ("timestamp" | "timestamptz", Physical::INT64) => match meaning {
                C::TIMESTAMP_MILLIS => Some(Form::Time { per_second: 1_000 }),
                C::TIMESTAMP_MICROS => Some(Form::Time { per_second: 1_000_000 }),
                _ => None,
            },
            (
                "numeric",
                Physical::INT32
                | Physical::INT64
                | Physical::BYTE_ARRAY
                | Physical::FIXED_LEN_BYTE_ARRAY,
            ) => (is_decimal && self.scale() == Some(scale)).then_some(Form::Decimal { scale }),
            ("varchar" | "bpchar" | "text", Physical::BYTE_ARRAY) => {
                let is_text = matches!(meaning, C::NONE | C::UTF8 | C::ENUM | C::JSON);
                is_text.then_some(Form::Text { most: self.length() })
            }
            ("bytea", Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY) => {
                (meaning == C::NONE).then_some(Form::Bytes)
            }
            _ => None,
        }
    }

    /// PostgreSQL keeps a length with four added.
    fn length(&self) -> Option<usize> {
        usize::try_from(self.modifier - 4).ok()
    }

    /// The scale of a number; one without holds any scale in PostgreSQL, on
    /// Redshift 0.
    fn scale(&self) -> Option<u32> {
        if self.modifier < 4 { Some(0) } else { u32::try_from((self.modifier - 4) & 0x7ff).ok() }
    }

    fn redshift_type(&self) -> String {
        let length = self.length().map(|length| format!("({length})")).unwrap_or_default();
        match self.type_name.as_str() {
            "bool" => "BOOLEAN".to_owned(),
            "int2" => "SMALLINT".to_owned(),
            "int4" => "INT".to_owned(),
            "int8" => "BIGINT".to_owned(),
            "float4" => "REAL".to_owned(),
            "float8" => "DOUBLE".to_owned(),
            "numeric" if self.modifier < 4 => "DECIMAL".to_owned(),
            "numeric" => {
                let precision = (self.modifier - 4) >> 16;
                format!("DECIMAL({precision}, {})", self.scale().unwrap_or(0))
            }
            "varchar" => format!("VARCHAR{length}"),
            "bpchar" => format!("CHAR{length}"),
            other => other.to_uppercase(),
        }
    }
}

/// A value that its form cannot hold; the text is about the value.
pub type Cell = Result<String, String>;

pub fn of_integer(value: i64, form: Form) -> Cell {
    match form {
        Form::Date => {
            let days = Span::new().try_days(value);
            let day = days.and_then(|days| date(1970, 1, 1).checked_add(days));
            day.map(|day| day.to_string()).map_err(|_| format!("day {value} is out of range"))
        }
        Form::Time { per_second } => time(value, per_second),
        Form::Decimal { scale } => Ok(decimal(i128::from(value), scale)),
        _ => Ok(value.to_string()),
    }
}

/// So many parts of a second since 1970.
fn time(value: i64, per_second: i64) -> Cell {
    let nanoseconds = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let duration = SignedDuration::new(value.div_euclid(per_second), 0)
        .checked_add(SignedDuration::from_nanos(nanoseconds));
    let start = date(1970, 1, 1).at(0, 0, 0, 0);
    let time = duration.and_then(|duration| start.checked_add(duration).ok());
    time.map(|time| format!("{} {}", time.date(), time.time()))
        .ok_or_else(|| format!("instant {value} is out of range"))
}

fn decimal(value: i128, scale: u32) -> String {
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    let scale = scale as usize;
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    // All are ASCII digits, and there are more than the scale.
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// A byte array, by its form; `replacement` stands for what is no character.
pub fn of_bytes(value: &[u8], form: Form, replacement: Option<char>) -> Cell {
    match form {
        Form::Decimal { scale } => {
            let sign: u8 = if value.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
            let missing = 16_usize.checked_sub(value.len());
            let missing = missing.ok_or("a decimal of more than 38 digits")?;
            let mut whole = [sign; 16];
            whole[missing..].copy_from_slice(value);
            Ok(decimal(i128::from_be_bytes(whole), scale))
        }
        Form::Bytes => Ok(format!("\\x{}", crate::ids::hex(value))),
        _ => text(value, replacement),
    }
}

fn text(value: &[u8], replacement: Option<char>) -> Cell {
    let found = match (std::str::from_utf8(value), replacement) {
        (Ok(text), _) => text.to_owned(),
        (Err(_), Some(replacement)) => {
            let lossy = String::from_utf8_lossy(value);
            lossy.replace(char::REPLACEMENT_CHARACTER, replacement.encode_utf8(&mut [0; 4]))
        }
        (Err(_), None) => {
            return Err("String contains invalid or unsupported UTF8 codepoints".to_owned());
        }
    };
    if found.contains('\0') {
        Err("a string contains the character NUL".to_owned())
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_were() {
        for (found, expected) in [
            (of_integer(15_706, Form::Date), "2013-01-01"),
            (of_integer(-1, Form::Date), "1969-12-31"),
            (of_integer(-1, Form::Time { per_second: 1_000 }), "1969-12-31 23:59:59.999"),
            (
                of_integer(1_356_998_400_000_001, Form::Time { per_second: 1_000_000 }),
                "2013-01-01 00:00:00.000001",
            ),
            (of_integer(-5, Form::Decimal { scale: 2 }), "-0.05"),
            (of_integer(12_345, Form::Decimal { scale: 0 }), "12345"),
            (of_bytes(&[0xff, 0x38], Form::Decimal { scale: 1 }, None), "-20.0"),
            (of_bytes(&[0x80; 1], Form::Decimal { scale: 3 }, None), "-0.128"),
            (of_bytes(&[0, 255], Form::Bytes, None), "\\x00ff"),
            (of_bytes(b"a\xffb", Form::Text { most: None }, Some('?')), "a?b"),
        ] {
            assert_eq!(found.as_deref(), Ok(expected));
        }
        assert!(of_bytes(b"\xff", Form::Text { most: None }, None).is_err());
        assert!(of_bytes(b"a\0", Form::Text { most: None }, None).is_err());
        assert!(of_bytes(&[1; 17], Form::Decimal { scale: 0 }, None).is_err());
        assert!(of_integer(i64::MAX, Form::Date).is_err());
        assert!(of_integer(i64::MIN, Form::Time { per_second: 1_000 }).is_err());
    }
}
