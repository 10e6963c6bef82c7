//! The rows of one Parquet file as PostgreSQL's text format, some at a time. Not
//! for choosing files.

use bytes::Bytes;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::cell::{Cell, Form, Target, of_bytes, of_integer};
use super::scan_error;
use crate::redshift::sql::Copy;
use crate::redshift::warehouse::SqlError;

/// Rows in memory at a time.
const CHUNK: usize = 1024;

/// One file that is being read.
pub struct Rows<'a> {
    reader: SerializedFileReader<Bytes>,
    columns: Vec<Column<'a>>,
    /// Columns that the file lacks and that become null.
    lacking: usize,
    readers: Vec<ColumnReader>,
    /// Rows left in the present row group.
    left: usize,
    next_group: usize,
    file: String,
    replacement: Option<char>,
}

struct Column<'a> {
    target: &'a Target,
    form: Form,
    /// Values of lower definition are null.
    max_def: i16,
}

impl<'a> Rows<'a> {
    /// Reads the end of a file and holds its columns against the table's.
    pub fn open(
        content: Bytes,
        file: &str,
        copy: &Copy,
        targets: &'a [Target],
    ) -> Result<Self, SqlError> {
        let reader = SerializedFileReader::new(content).map_err(|error| broken(file, &error))?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let found = schema.root_schema().get_fields().len();
        let fits = if copy.fills_record { found <= targets.len() } else { found == targets.len() };
        if !fits {
            return Err(scan_error(
                15007,
                &format!(
                    "Unmatched number of columns between table and file. Table columns: {}, Data \
                     columns: {found}, File name: {file}",
                    targets.len()
                ),
            ));
        }
        let columns = schema.columns().iter().zip(targets).map(|(column, target)| {
            let form = target.form(column, file)?;
            Ok(Column { target, form, max_def: column.max_def_level() })
        });
        let columns: Vec<Column<'a>> = columns.collect::<Result<_, SqlError>>()?;
        Ok(Self {
            reader,
            lacking: targets.len() - found,
            columns,
            readers: Vec::new(),
            left: 0,
            next_group: 0,
            file: file.to_owned(),
            replacement: copy.replacement,
        })
    }

    /// The next rows; nothing at the end.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, SqlError> {
        while self.left == 0 {
            if self.next_group == self.reader.num_row_groups() {
                return Ok(None);
            }
            self.open_group().map_err(|error| broken(&self.file, &error))?;
        }
        let wanted = self.left.min(CHUNK);
        let mut cells = Vec::with_capacity(self.columns.len());
        for (reader, column) in self.readers.iter_mut().zip(&self.columns) {
            let read = read(reader, column, wanted, self.replacement);
            let values = read.map_err(|error| error.of(column, &self.file))?;
            if values.len() != wanted {
                let error = ParquetError::General("a column is too short".to_owned());
                return Err(broken(&self.file, &error));
            }
            cells.push(values.into_iter());
        }
        self.left -= wanted;
        let mut text = String::new();
        for _ in 0..wanted {
            let row = cells.iter_mut().map(|column| column.next().flatten());
            let filled = row.chain(std::iter::repeat_n(None, self.lacking));
            for (index, cell) in filled.enumerate() {
                if index > 0 {
                    text.push('\t');
                }
                write_cell(&mut text, cell.as_deref());
            }
            text.push('\n');
        }
        Ok(Some(Bytes::from(text)))
    }

    fn open_group(&mut self) -> Result<(), ParquetError> {
        let group = self.reader.get_row_group(self.next_group)?;
        let readers = (0..self.columns.len()).map(|index| group.get_column_reader(index));
        self.readers = readers.collect::<Result<_, _>>()?;
        let rows = usize::try_from(group.metadata().num_rows());
        self.left = rows.map_err(|_| ParquetError::General("a negative row count".to_owned()))?;
        self.next_group += 1;
        Ok(())
    }
}

/// Null is `\N`; what structures the text is escaped.
fn write_cell(text: &mut String, cell: Option<&str>) {
    let Some(cell) = cell else { return text.push_str("\\N") };
    for c in cell.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            other => text.push(other),
        }
    }
}

/// Why values could not be read.
enum ReadError {
    File(ParquetError),
    Value(String),
    TooLong { most: usize, found: usize },
}

impl ReadError {
    fn of(self, column: &Column<'_>, file: &str) -> SqlError {
        let name = &column.target.name;
        match self {
            Self::File(error) => broken(file, &error),
            Self::Value(error) => {
                scan_error(15001, &format!("{error}, in column {name}, File name: {file}"))
            }
            Self::TooLong { most, found } => scan_error(
                15001,
                &format!(
                    "The length of the data column {name} is longer than the length defined in \
                     the table. Table: {most}, Data: {found}, File name: {file}"
                ),
            ),
        }
    }
}

fn broken(file: &str, error: &ParquetError) -> SqlError {
    scan_error(15001, &format!("File '{file}' is not a valid Parquet file: {error}"))
}

type Values = Result<Vec<Option<String>>, ReadError>;

fn read(
    reader: &mut ColumnReader,
    column: &Column<'_>,
    wanted: usize,
    replacement: Option<char>,
) -> Values {
    use ColumnReader as R;
    let form = column.form;
    let max_def = column.max_def;
    match reader {
        R::BoolColumnReader(r) => values(r, wanted, max_def, |v| Ok(v.to_string())),
        R::Int32ColumnReader(r) => values(r, wanted, max_def, |v| of_integer(i64::from(*v), form)),
        R::Int64ColumnReader(r) => values(r, wanted, max_def, |v| of_integer(*v, form)),
        R::Int96ColumnReader(r) => values(r, wanted, max_def, |v| of_integer(v.to_micros(), form)),
        R::FloatColumnReader(r) => values(r, wanted, max_def, |v| Ok(v.to_string())),
        R::DoubleColumnReader(r) => values(r, wanted, max_def, |v| Ok(v.to_string())),
        R::ByteArrayColumnReader(r) => {
            let found = values(r, wanted, max_def, |v| of_bytes(v.data(), form, replacement))?;
            check_lengths(found, form)
        }
        R::FixedLenByteArrayColumnReader(r) => {
            values(r, wanted, max_def, |v| of_bytes(v.data(), form, replacement))
        }
    }
}

/// As on Redshift, a length is one in bytes.
fn check_lengths(found: Vec<Option<String>>, form: Form) -> Values {
    if let Form::Text { most: Some(most) } = form
        && let Some(text) = found.iter().flatten().find(|text| text.len() > most)
    {
        return Err(ReadError::TooLong { most, found: text.len() });
    }
    Ok(found)
}

fn values<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    wanted: usize,
    max_def: i16,
    text: impl Fn(&T::T) -> Cell,
) -> Values {
    let (mut levels, mut present) = (Vec::new(), Vec::new());
    let mut records = 0;
    // A read ends at a page's end.
    while records < wanted {
        let read = reader.read_records(wanted - records, Some(&mut levels), None, &mut present);
        let (more, _, _) = read.map_err(ReadError::File)?;
        if more == 0 {
            break;
        }
        records += more;
    }
    let mut present = present.iter().map(|value| text(value).map_err(ReadError::Value));
    if max_def == 0 {
        return present.map(|value| value.map(Some)).collect();
    }
    let all = levels
        .iter()
        .map(|level| if *level < max_def { Ok(None) } else { present.next().transpose() });
    all.collect()
}
