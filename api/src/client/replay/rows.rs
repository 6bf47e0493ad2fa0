//! Rows of a CSV or NDJSON file, plain or compressed with gzip, one after another in bounded memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use super::super::error::ClientError;

const COLUMNS_MAX: usize = 1_000;
/// The longest line of NDJSON that is read.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// The value of a column in a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Cell {
    /// No value: an empty CSV field, a JSON null, or a key that is not there.
    #[default]
    Empty,
    /// A CSV field, of no type yet.
    Text(String),
    /// A JSON value.
    Json(Value),
}

/// The rows of one file.
pub(crate) struct Rows {
    path: PathBuf,
    columns: Vec<String>,
    format: Format,
    line: u64,
}

enum Format {
    Csv { reader: csv::Reader<Box<dyn Read + Send>>, record: csv::StringRecord },
    Ndjson { reader: BufReader<Box<dyn Read + Send>>, text: String },
}

impl Rows {
    /// Opens a file; its name says its form: `.csv`, `.ndjson` or `.jsonl`, with or without `.gz`.
    ///
    /// # Errors
    /// When the file cannot be read, or its name says none of these.
    pub(crate) fn open(path: &Path) -> Result<Self, ClientError> {
        let unreadable = |source| ClientError::Read { path: path.to_owned(), source };
        let name = path.to_string_lossy().to_lowercase();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let file = File::open(path).map_err(unreadable)?;
        let bytes: Box<dyn Read + Send> = match name.ends_with(".gz") {
            true => Box::new(MultiGzDecoder::new(BufReader::new(file))),
            false => Box::new(file),
        };
        let mut rows = Rows { path: path.to_owned(), columns: Vec::new(), format: Format::none(), line: 0 };
        if plain.ends_with(".csv") {
            let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
            let headers = reader.headers().map_err(|e| rows.wrong_csv(&e))?;
            rows.columns = headers.iter().map(|name| name.trim().to_owned()).collect();
            rows.format = Format::Csv { reader, record: csv::StringRecord::new() };
        } else if [".ndjson", ".jsonl"].iter().any(|ending| plain.ends_with(ending)) {
            rows.format = Format::Ndjson { reader: BufReader::new(bytes), text: String::new() };
        } else {
            let reason = "the name must end in .csv, .ndjson or .jsonl (or one of these and .gz)".to_owned();
            return Err(ClientError::File { path: path.to_owned(), reason });
        }
        Ok(rows)
    }

    /// The columns that were seen so far; those of CSV are known from the start, those of NDJSON grow with its keys.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The line of the last row, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Reads the next row into `cells`, one a column; false at the end of the file.
    ///
    /// # Errors
    /// [`ClientError::Line`] for a line that is not of the file's form.
    pub(crate) fn next(&mut self, cells: &mut Vec<Cell>) -> Result<bool, ClientError> {
        cells.clear();
        match &mut self.format {
            Format::Csv { reader, record } => {
                let more = reader.read_record(record);
                self.line = record.position().map_or(self.line, csv::Position::line);
                if !more.map_err(|e| self.wrong_csv(&e))? {
                    return Ok(false);
                }
                let Format::Csv { record, .. } = &self.format else { return Ok(false) };
                cells.extend(record.iter().map(|field| match field {
                    "" => Cell::Empty,
                    text => Cell::Text(text.to_owned()),
                }));
                Ok(true)
            }
            Format::Ndjson { .. } => self.next_object(cells),
        }
    }

    fn next_object(&mut self, cells: &mut Vec<Cell>) -> Result<bool, ClientError> {
        let object: Map<String, Value> = loop {
            let Format::Ndjson { reader, text } = &mut self.format else { return Ok(false) };
            text.clear();
            let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(text);
            let read = read.map_err(|source| ClientError::Read { path: self.path.clone(), source })?;
            if read == 0 {
                return Ok(false);
            }
            self.line += 1;
            if !text.trim().is_empty() {
                let object = serde_json::from_str(text);
                break object.map_err(|e| self.wrong(format!("expected a JSON object: {e}")))?;
            }
        };
        cells.resize(self.columns.len(), Cell::Empty);
        for (key, value) in object {
            let cell = if value.is_null() { Cell::Empty } else { Cell::Json(value) };
            match self.columns.iter().position(|column| *column == key) {
                Some(index) => cells[index] = cell,
                None if self.columns.len() == COLUMNS_MAX => {
                    return Err(self.wrong(format!("more than {COLUMNS_MAX} different keys")));
                }
                None => {
                    self.columns.push(key);
                    cells.push(cell);
                }
            }
        }
        Ok(true)
    }

    /// An error at the last line.
    pub(crate) fn wrong(&self, reason: String) -> ClientError {
        ClientError::Line { path: self.path.clone(), line: self.line, reason }
    }

    fn wrong_csv(&self, error: &csv::Error) -> ClientError {
        let line = error.position().map_or(self.line, csv::Position::line);
        ClientError::Line { path: self.path.clone(), line, reason: error.to_string() }
    }
}

impl Format {
    /// The form of a file without rows.
    fn none() -> Format {
        Format::Ndjson { reader: BufReader::new(Box::new(std::io::empty())), text: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::io::Write;

    fn read(name: &str, content: &[u8]) -> Result<(Vec<String>, Vec<Vec<Cell>>), ClientError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut rows = Rows::open(&path)?;
        let (mut all, mut cells) = (Vec::new(), Vec::new());
        while rows.next(&mut cells)? {
            all.push(cells.clone());
        }
        Ok((rows.columns().to_vec(), all))
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn csv_is_read_plain_and_compressed() {
        let content = b"\xef\xbb\xbftimestamp, value\n2014-02-14 14:30:00,1.5\n\"a \"\"b\"\"\",\n";
        let text = |text: &str| Cell::Text(text.to_owned());
        let rows = vec![vec![text("2014-02-14 14:30:00"), text("1.5")], vec![text("a \"b\""), Cell::Empty]];
        let expected = (vec!["timestamp".to_owned(), "value".to_owned()], rows);
        assert_eq!(read("x.csv", content).unwrap(), expected);
        assert_eq!(read("X.CSV.gz", &gzip(content)).unwrap(), expected);
    }

    #[test]
    fn the_keys_of_ndjson_become_columns_as_they_come() {
        let (columns, rows) = read("x.jsonl", b"{\"a\":1}\n\n{\"b\":[2],\"a\":null}\n").unwrap();
        assert_eq!(columns, ["a", "b"]);
        assert_eq!(rows, [vec![Cell::Json(json!(1))], vec![Cell::Empty, Cell::Json(json!([2]))]]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let check = |name: &str, content: &[u8], expected: &str| {
            let error = read(name, content).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("x.csv", b"a,b\n1,2\n1,2,3\n", "x.csv:3: ");
        check("x.ndjson", b"{\"a\":1}\n[1]\n", "x.ndjson:2: expected a JSON object");
        check("x.txt", b"", "must end in .csv");
    }
}
