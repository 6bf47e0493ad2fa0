//! A sheet of Excel: made on disk row by row, in constant memory, and sent when it is whole.
//!
//! The first row has the names, bold, and stays in place; columns have filters. What Excel cannot hold is refused with
//! what would: too many rows or columns, too long a text. What it would change is text: see `cell`.
//!
//! # Layout
//!
//! - `cell`: a value as a cell.

mod cell;

use std::fs::File;
use std::io::{Read, Seek, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use rust_xlsxwriter::{Format, Workbook, Worksheet, XlsxError};
use tokio::sync::Semaphore;

use super::{Body, apart, flat, unwritable, with_zones};
use crate::error::QueryError;
use crate::session::QueryStream;
use cell::{Column, Formats};

/// Rows of a sheet, without that of the names.
pub(super) const ROWS_MAX: u32 = 1_048_575;
/// Columns of a sheet.
const COLUMNS_MAX: usize = 16_384;
/// Bytes of a sheet before it is packed, about: what it may take on disk.
const SHEET_BYTES_MAX: usize = 512 << 20;
/// What a cell takes beside its text, about.
const CELL_BYTES: usize = 32;
/// Columns are as wide as their names and what is in so many rows need.
const ROWS_MEASURED: u32 = 200;
/// The width of a column in characters.
const WIDTH_MIN: usize = 8;
const WIDTH_MAX: usize = 60;
/// What is sent at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Sheets that are packed at a time; it takes a processor for seconds, and cannot be stopped.
static PACKING: Semaphore = Semaphore::const_new(2);

/// The answer as a file.
pub(super) async fn body(mut answer: QueryStream) -> Result<Body, QueryError> {
    let schema = answer.schema.clone();
    let mut sheet = on_disk(move || Sheet::new(&schema)).await?;
    while let Some(batch) = answer.next().await.transpose()? {
        sheet = on_disk(move || sheet.with(&batch)).await?;
    }
    drop(answer);
    let _turn = PACKING.acquire().await;
    let file = on_disk(move || sheet.packed()).await?;
    let chunks = stream::try_unfold(file, |file| async { apart(move || chunk(file)).await });
    Ok(chunks.boxed())
}

/// The library gives up with a panic when the disk is full.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    apart(work).await.map_err(|error| match error {
        QueryError::Bug(_) => disk(&"it could not be written to"),
        other => other,
    })
}

fn disk(reason: &dyn std::fmt::Display) -> QueryError {
    QueryError::SheetDisk { folder: std::env::temp_dir().display().to_string(), reason: reason.to_string() }
}

fn wrong(error: &XlsxError) -> QueryError {
    match error {
        XlsxError::TempFileError(_, error) | XlsxError::IoError(error) => disk(error),
        other => unwritable(other),
    }
}

/// The next bytes of a file, and the file to go on with.
fn chunk(mut file: File) -> Result<Option<(Bytes, File)>, QueryError> {
    let mut bytes = vec![0; CHUNK_BYTES];
    let read = file.read(&mut bytes).map_err(|error| disk(&error))?;
    bytes.truncate(read);
    Ok((read > 0).then(|| (bytes.into(), file)))
}

/// A sheet that is being written.
pub(super) struct Sheet {
    workbook: Workbook,
    formats: Formats,
    /// Rows that are written, without that of the names.
    rows: u32,
    bytes: usize,
    widths: Vec<usize>,
}

impl Sheet {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, QueryError> {
        let columns = schema.fields().len();
        if columns > COLUMNS_MAX {
            return Err(beyond(format!("{columns} columns, and a sheet has {COLUMNS_MAX}"), "name fewer"));
        }
        let widths = schema.fields().iter().map(|field| cell::width(field.name())).collect();
        let mut sheet = Sheet { workbook: Workbook::new(), formats: Formats::default(), rows: 0, bytes: 0, widths };
        sheet.head(schema).map_err(|error| wrong(&error))?;
        Ok(sheet)
    }

    fn head(&mut self, schema: &SchemaRef) -> Result<(), XlsxError> {
        let page = self.workbook.add_worksheet_with_constant_memory()?;
        page.set_formula_result_default(""); // of empty texts
        page.set_freeze_panes(1, 0)?;
        let bold = Format::new().set_bold();
        for (place, field) in (0..).zip(schema.fields()) {
            page.write_string_with_format(0, place, field.name(), &bold)?;
        }
        Ok(())
    }

    fn page(workbook: &mut Workbook) -> Result<&mut Worksheet, QueryError> {
        workbook.worksheet_from_index(0).map_err(|error| wrong(&error))
    }

    /// The sheet with the rows of a batch.
    pub(super) fn with(mut self, batch: &RecordBatch) -> Result<Self, QueryError> {
        let batch = with_zones(batch).and_then(|batch| flat(&batch)).map_err(|error| unwritable(&error))?;
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, values)| Column::new(field, values));
        let columns: Vec<Column<'_>> = columns.collect::<Result<_, _>>().map_err(|error| unwritable(&error))?;
        let page = Self::page(&mut self.workbook)?;
        for row in 0..batch.num_rows() {
            if self.rows == ROWS_MAX {
                return Err(beyond(format!("more than {ROWS_MAX} rows, which a sheet has"), "use LIMIT or group"));
            }
            self.rows += 1;
            for (place, column) in (0..).zip(&columns) {
                let written = column.write(row, page, self.rows, place, &self.formats)?;
                self.bytes += CELL_BYTES + written.bytes;
                if self.rows <= ROWS_MEASURED {
                    let width = &mut self.widths[usize::from(place)];
                    *width = (*width).max(written.width);
                }
            }
            if self.bytes > SHEET_BYTES_MAX {
                let most = format!("more than {} MiB of cells, the bound", SHEET_BYTES_MAX >> 20);
                return Err(beyond(most, "name fewer columns, or use LIMIT"));
            }
        }
        Ok(self)
    }

    /// The file, at its beginning.
    pub(super) fn packed(mut self) -> Result<File, QueryError> {
        let page = Self::page(&mut self.workbook)?;
        let finish = |page: &mut Worksheet| -> Result<(), XlsxError> {
            for (place, width) in (0..).zip(&self.widths) {
                page.set_column_width(place, (*width).clamp(WIDTH_MIN, WIDTH_MAX) as f64 + 2.0)?;
            }
            if let Some(last) = (self.widths.len() as u16).checked_sub(1) {
                page.autofilter(0, 0, self.rows, last)?;
            }
            Ok(())
        };
        finish(page).map_err(|error| wrong(&error))?;
        let mut file = tempfile::tempfile().map_err(|error| disk(&error))?;
        let mut packed = std::io::BufWriter::new(&mut file);
        self.workbook.save_to_writer(&mut packed).map_err(|error| wrong(&error))?;
        packed.flush().map_err(|error| disk(&error))?;
        drop(packed);
        file.rewind().map_err(|error| disk(&error))?;
        Ok(file)
    }
}

fn beyond(what: String, instead: &str) -> QueryError {
    QueryError::Sheet { reason: format!("the answer has {what}; {instead}, or ask for parquet or csv") }
}
