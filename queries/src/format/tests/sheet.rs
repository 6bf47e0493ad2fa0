//! Reading an XLSX file, as far as we write such.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::DeflateDecoder;

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Number(f64),
    /// A number in that style.
    Styled(f64, usize),
    Truth(bool),
    Text(String),
}

/// A sheet: cells by row and column, from 0, and its whole text.
pub(super) struct Sheet {
    pub(super) cells: BTreeMap<(usize, usize), Cell>,
    pub(super) xml: String,
}

/// Reads the first sheet.
pub(super) fn read(file: &[u8]) -> Sheet {
    let xml = unzipped(file, "xl/worksheets/sheet1.xml");
    let mut cells = BTreeMap::new();
    for part in xml.split("<c r=\"").skip(1) {
        let (head, rest) = part.split_once('>').unwrap();
        let (name, attributes) = head.split_once('"').unwrap();
        let inner = rest.split("</c>").next().unwrap();
        let value = |tag: &str| {
            let (_, from) = inner.split_once(&format!("<{tag}"))?;
            let (_, from) = from.split_once('>')?;
            Some(plain(from.split_once(&format!("</{tag}>"))?.0))
        };
        let style = attributes.split("s=\"").nth(1).and_then(|text| text.split('"').next()?.parse().ok());
        let cell = if attributes.contains("t=\"inlineStr\"") {
            Cell::Text(value("t").unwrap())
        } else if attributes.contains("t=\"str\"") {
            assert_eq!(value("f").as_deref(), Some("\"\""), "only empty texts are formulas: {part}");
            Cell::Text(value("v").unwrap())
        } else if attributes.contains("t=\"b\"") {
            Cell::Truth(value("v").unwrap() == "1")
        } else {
            let number: f64 = value("v").unwrap().parse().unwrap();
            style.map_or(Cell::Number(number), |style| Cell::Styled(number, style))
        };
        cells.insert(place(name), cell);
    }
    Sheet { cells, xml }
}

/// `B3` as row 2 and column 1.
fn place(name: &str) -> (usize, usize) {
    let letters = name.bytes().take_while(u8::is_ascii_uppercase).count();
    let column = name.bytes().take(letters).fold(0, |column, letter| column * 26 + usize::from(letter - b'A') + 1);
    (name[letters..].parse::<usize>().unwrap() - 1, column - 1)
}

/// The text behind what XML and Excel escape.
fn plain(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("_x") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let code = rest.get(2..6).filter(|_| rest.as_bytes().get(6) == Some(&b'_'));
        match code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32) {
            Some(character) => {
                out.push(character);
                rest = &rest[7..];
            }
            None => {
                out.push_str("_x");
                rest = &rest[2..];
            }
        }
    }
    out + rest
}

/// A file of a zip archive, by the archive's directory.
pub(super) fn unzipped(archive: &[u8], name: &str) -> String {
    let short = |at: usize| usize::from(u16::from_le_bytes(archive[at..at + 2].try_into().unwrap()));
    let long = |at: usize| u32::from_le_bytes(archive[at..at + 4].try_into().unwrap()) as usize;
    let end = archive.windows(4).rposition(|bytes| bytes == b"PK\x05\x06").expect("an archive has a directory");
    let mut entry = long(end + 16);
    for _ in 0..short(end + 10) {
        let length = short(entry + 28);
        if &archive[entry + 46..entry + 46 + length] == name.as_bytes() {
            let (packed, local) = (long(entry + 20), long(entry + 42));
            let begin = local + 30 + short(local + 26) + short(local + 28);
            let mut text = String::new();
            DeflateDecoder::new(&archive[begin..begin + packed]).read_to_string(&mut text).unwrap();
            return text;
        }
        entry += 46 + length + short(entry + 30) + short(entry + 32);
    }
    panic!("the archive has no {name}");
}
