//! What the encodings of sketches share: a first byte that names the form, then LEB128 numbers.

use crate::SchemaError;

/// Appends a number in LEB128: seven bits a byte, the low ones first.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads an encoding from its begin; every read is checked.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
    /// The kind of sketch, for the error.
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Reader { bytes, offset: 0, what }
    }

    pub(super) fn error(&self, reason: &str) -> SchemaError {
        SchemaError::Encoding { offset: self.offset, reason: format!("in {}, {reason}", self.what) }
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    pub(super) fn byte(&mut self) -> Result<u8, SchemaError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], SchemaError> {
        let rest = &self.bytes[self.offset..];
        let taken = rest.get(..length).ok_or_else(|| self.error("the bytes end early"))?;
        self.offset += length;
        Ok(taken)
    }

    pub(super) fn number(&mut self) -> Result<u64, SchemaError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.error("a number does not fit 64 bits"))
    }

    /// Reads a count that may be `max` at most, so that what is reserved for it is bounded.
    pub(super) fn count(&mut self, max: usize) -> Result<usize, SchemaError> {
        let count = self.number()?;
        (usize::try_from(count).ok().filter(|count| *count <= max))
            .ok_or_else(|| self.error(&format!("a count of {count} is more than the {max} that can be")))
    }

    /// Says that nothing may follow.
    pub(super) fn end(&self) -> Result<(), SchemaError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.error("bytes follow after the end")) }
    }
}
