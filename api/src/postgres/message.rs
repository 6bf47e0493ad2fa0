//! Messages of the protocol, version 3: those of clients read from their bytes, those of the server written.
//!
//! Every message but the first of a connection is a letter, a length that counts itself, and a body. A reader checks
//! every length against what is there; a body that ends too early is an error, never a panic.

/// What was wrong with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

const NOT_UTF8: Malformed = Malformed("a text in it is not UTF-8");

/// A message of a client, after the start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frontend {
    Query(String),
    Parse {
        name: String,
        sql: String,
        kinds: Vec<u32>,
    },
    Bind(Bind),
    Describe {
        what: Target,
        name: String,
    },
    Execute {
        portal: String,
        rows_max: usize,
    },
    Close {
        what: Target,
        name: String,
    },
    Flush,
    Sync,
    Password(Vec<u8>),
    Terminate,
    /// A call of a function by its number, which there is not.
    Call,
    /// A message with a text that is not UTF-8; whether it was a whole question.
    NotUtf8 {
        simple: bool,
    },
    /// Data, or the end of it, for a `COPY … FROM STDIN`, which there is not.
    Copy,
}

/// Values for a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    pub(super) formats: Vec<Form>,
    pub(super) values: Vec<Option<Vec<u8>>>,
    pub(super) results: Vec<Form>,
}

/// What is described or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Statement,
    Portal,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Binary,
}

/// The form of the value at a place: one for all, one each, or text when none is given.
pub(super) fn form_at(forms: &[Form], place: usize) -> Form {
    match forms {
        [] => Form::Text,
        [all] => *all,
        each => each.get(place).copied().unwrap_or(Form::Text),
    }
}

/// The first message of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    Tls,
    /// Encryption by Kerberos, which there is not.
    Gss,
    Cancel {
        process: i32,
        key: Vec<u8>,
    },
    Start {
        minor: u16,
        parameters: Vec<(String, String)>,
    },
}

const TLS_CODE: u32 = 80_877_103;
const GSS_CODE: u32 = 80_877_104;
const CANCEL_CODE: u32 = 80_877_102;
/// The version of the protocol that is spoken, without its minor number.
const MAJOR: u16 = 3;

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes(&mut self, count: usize) -> Result<&[u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Malformed("it ends too early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.bytes(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed("a text in it does not end"))?;
        let text = std::str::from_utf8(self.bytes(end)?).map_err(|_| NOT_UTF8)?.to_owned();
        self.bytes(1)?;
        Ok(text)
    }

    fn forms(&mut self) -> Result<Vec<Form>, Malformed> {
        let count = self.u16()?;
        let mut forms = Vec::new();
        for _ in 0..count {
            forms.push(match self.u16()? {
                0 => Form::Text,
                1 => Form::Binary,
                _ => return Err(Malformed("a format in it is neither text nor binary")),
            });
        }
        Ok(forms)
    }

    fn target(&mut self) -> Result<Target, Malformed> {
        match self.byte()? {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            _ => Err(Malformed("it names neither a statement nor a portal")),
        }
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("it is longer than what it says")) }
    }
}

impl Beginning {
    /// Reads the body of a first message, without its length.
    pub(super) fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(body);
        match reader.u32()? {
            TLS_CODE => Ok(Beginning::Tls),
            GSS_CODE => Ok(Beginning::Gss),
            CANCEL_CODE => {
                let process = reader.u32()?.cast_signed();
                Ok(Beginning::Cancel { process, key: reader.0.to_vec() })
            }
            version if version >> 16 == u32::from(MAJOR) => {
                let mut parameters = Vec::new();
                loop {
                    let name = reader.text()?;
                    if name.is_empty() {
                        return Ok(Beginning::Start { minor: (version & 0xffff) as u16, parameters });
                    }
                    parameters.push((name, reader.text()?));
                }
            }
            _ => Err(Malformed("it asks for a version of the protocol that is not 3")),
        }
    }
}

impl Frontend {
    /// Reads a message from its letter and body.
    pub(super) fn read(letter: u8, body: &[u8]) -> Result<Self, Malformed> {
        match Frontend::read_strictly(letter, body) {
            Err(NOT_UTF8) => Ok(Frontend::NotUtf8 { simple: letter == b'Q' }), // where it ends is known
            read => read,
        }
    }

    fn read_strictly(letter: u8, body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(body);
        let message = match letter {
            b'Q' => Frontend::Query(reader.text()?),
            b'P' => {
                let (name, sql) = (reader.text()?, reader.text()?);
                let count = reader.u16()?;
                let kinds = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
                Frontend::Parse { name, sql, kinds }
            }
            b'B' => Frontend::Bind(bind(&mut reader)?),
            b'D' => Frontend::Describe { what: reader.target()?, name: reader.text()? },
            b'C' => Frontend::Close { what: reader.target()?, name: reader.text()? },
            b'E' => {
                let portal = reader.text()?;
                let rows_max = usize::try_from(reader.u32()?.cast_signed()).unwrap_or(0);
                Frontend::Execute { portal, rows_max }
            }
            b'H' => Frontend::Flush,
            b'S' => Frontend::Sync,
            b'X' => Frontend::Terminate,
            b'p' => return Ok(Frontend::Password(body.to_vec())),
            b'd' | b'c' | b'f' => return Ok(Frontend::Copy),
            b'F' => return Ok(Frontend::Call),
            _ => return Err(Malformed("its letter is not one of the protocol")),
        };
        reader.end()?;
        Ok(message)
    }
}

fn bind(reader: &mut Reader<'_>) -> Result<Bind, Malformed> {
    let (portal, statement, formats) = (reader.text()?, reader.text()?, reader.forms()?);
    let mut values = Vec::new();
    for _ in 0..reader.u16()? {
        let length = reader.u32()?.cast_signed();
        values.push(match usize::try_from(length) {
            Ok(length) => Some(reader.bytes(length)?.to_vec()),
            Err(_) => None,
        });
    }
    Ok(Bind { portal, statement, formats, values, results: reader.forms()? })
}

/// A column, as clients are told about it.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: u32,
    pub(super) length: i16,
    pub(super) form: Form,
}

/// Whether a session is within a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Transaction {
    #[default]
    None,
    Open,
    Failed,
}

/// Bytes on their way to a client.
#[derive(Default)]
pub(super) struct Output(pub(super) Vec<u8>);

impl Output {
    /// Writes a message; `body` writes what comes after its length.
    pub(super) fn message(&mut self, letter: u8, body: impl FnOnce(&mut Vec<u8>)) {
        self.0.push(letter);
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        body(&mut self.0);
        let length = (self.0.len() - start) as u32;
        self.0[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub(super) fn authentication(&mut self, code: u32, data: &[u8]) {
        self.message(b'R', |out| {
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(data);
        });
    }

    /// Says which minor version is spoken instead of the one asked for, and which options are not known.
    pub(super) fn negotiate(&mut self, unknown: &[&str]) {
        self.message(b'v', |out| {
            out.extend_from_slice(&(u32::from(MAJOR) << 16).to_be_bytes());
            out.extend_from_slice(&(unknown.len() as u32).to_be_bytes());
            unknown.iter().for_each(|option| put_text(out, option));
        });
    }

    pub(super) fn parameter(&mut self, name: &str, value: &str) {
        self.message(b'S', |out| {
            put_text(out, name);
            put_text(out, value);
        });
    }

    pub(super) fn key(&mut self, process: i32, key: i32) {
        self.message(b'K', |out| {
            out.extend_from_slice(&process.to_be_bytes());
            out.extend_from_slice(&key.to_be_bytes());
        });
    }

    pub(super) fn ready(&mut self, transaction: Transaction) {
        let state = match transaction {
            Transaction::None => b'I',
            Transaction::Open => b'T',
            Transaction::Failed => b'E',
        };
        self.message(b'Z', |out| out.push(state));
    }

    /// Says what was done.
    pub(super) fn complete(&mut self, tag: &str) {
        self.message(b'C', |out| put_text(out, tag));
    }

    pub(super) fn plain(&mut self, letter: u8) {
        self.message(letter, |_| {});
    }

    pub(super) fn parameters(&mut self, kinds: &[u32]) {
        self.message(b't', |out| {
            out.extend_from_slice(&(kinds.len() as u16).to_be_bytes());
            kinds.iter().for_each(|kind| out.extend_from_slice(&kind.to_be_bytes()));
        });
    }

    pub(super) fn columns(&mut self, columns: &[Column]) {
        self.message(b'T', |out| {
            out.extend_from_slice(&(columns.len() as u16).to_be_bytes());
            for column in columns {
                put_text(out, &column.name);
                out.extend_from_slice(&[0; 6]); // it is told as a column of no table
                out.extend_from_slice(&column.kind.to_be_bytes());
                out.extend_from_slice(&column.length.to_be_bytes());
                out.extend_from_slice(&(-1_i32).to_be_bytes());
                out.extend_from_slice(&(column.form as u16).to_be_bytes());
            }
        });
    }

    /// Writes a row of texts.
    pub(super) fn texts(&mut self, values: &[&str]) {
        self.message(b'D', |out| {
            out.extend_from_slice(&(values.len() as u16).to_be_bytes());
            for value in values {
                out.extend_from_slice(&(value.len() as u32).to_be_bytes());
                out.extend_from_slice(value.as_bytes());
            }
        });
    }

    /// Says that rows of a copy follow, of so many columns, all text.
    pub(super) fn copy_out(&mut self, columns: usize, form: Form) {
        let code = u8::from(form == Form::Binary);
        self.message(b'H', |out| {
            out.push(code);
            out.extend_from_slice(&(columns as u16).to_be_bytes());
            (0..columns).for_each(|_| out.extend_from_slice(&[0, code]));
        });
    }

    /// An error or a notice: letters and texts.
    pub(super) fn fields(&mut self, letter: u8, fields: &[(u8, &str)]) {
        self.message(letter, |out| {
            for (field, text) in fields {
                out.push(*field);
                put_text(out, text);
            }
            out.push(0);
        });
    }
}

/// A text ends at its first zero, so it may have none within.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_whole_or_not_at_all() {
        let mut body = b"portal\0statement\0".to_vec();
        body.extend([0, 1, 0, 1]); // one format: binary
        body.extend([0, 2, 0, 0, 0, 1, 7, 0xff, 0xff, 0xff, 0xff]); // two values: a byte, and null
        body.extend([0, 0]);
        let expected = Bind {
            portal: "portal".into(),
            statement: "statement".into(),
            formats: vec![Form::Binary],
            values: vec![Some(vec![7]), None],
            results: Vec::new(),
        };
        assert_eq!(Frontend::read(b'B', &body), Ok(Frontend::Bind(expected)));
        for end in 0..body.len() {
            assert!(Frontend::read(b'B', &body[..end]).is_err(), "{end} bytes");
        }
        body.push(0);
        assert_eq!(Frontend::read(b'B', &body), Err(Malformed("it is longer than what it says")));
        let huge = [b"p\0s\0".as_slice(), &[0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]].concat();
        assert_eq!(Frontend::read(b'B', &huge), Err(Malformed("it ends too early")));
        assert_eq!(Frontend::read(b'Q', b"SELECT \xff\0"), Ok(Frontend::NotUtf8 { simple: true }));
        assert_eq!(Frontend::read(b'P', b"\xff\0x\0\0\0"), Ok(Frontend::NotUtf8 { simple: false }));
        assert_eq!(Frontend::read(b'?', b""), Err(Malformed("its letter is not one of the protocol")));
    }

    #[test]
    fn a_connection_begins() {
        let start = [&[0, 3, 0, 2], b"user\0me\0\0".as_slice()].concat();
        let parameters = vec![("user".to_owned(), "me".to_owned())];
        assert_eq!(Beginning::read(&start), Ok(Beginning::Start { minor: 2, parameters }));
        assert_eq!(Beginning::read(&TLS_CODE.to_be_bytes()), Ok(Beginning::Tls));
        let cancel = [&CANCEL_CODE.to_be_bytes(), [0, 0, 0, 9, 1, 2, 3, 4].as_slice()].concat();
        assert_eq!(Beginning::read(&cancel), Ok(Beginning::Cancel { process: 9, key: vec![1, 2, 3, 4] }));
        assert!(Beginning::read(&[0, 2, 0, 0, 0]).is_err());
        assert!(Beginning::read(&start[..start.len() - 1]).is_err());
    }
}
