//! A scanner of JSON text: one pass, borrowed results, no recursion, exact places of faults.
//!
//! It checks the whole grammar of RFC 8259, also in what it steps over, and nothing else: a scanned [`Value`] is a
//! piece of the body, and whoever needs a number or a text asks the piece for it. Depth is bounded by a stack of
//! 128 bits, so no input can overflow the thread's stack.

use std::borrow::Cow;

/// The deepest nesting of arrays and objects that is read.
pub(super) const DEPTH_MAX: u32 = 128;

/// A place where the text stops being JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    /// The byte, counted from the start of the body.
    pub(super) offset: usize,
    /// What is wrong there.
    pub(super) problem: Problem,
}

/// What is wrong at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Something else was expected.
    Expected(&'static str),
    /// A string holds a control character as it is.
    Control,
    /// A backslash is followed by something that JSON does not know.
    Escape,
    /// More than [`DEPTH_MAX`] arrays and objects are open.
    Depth,
}

impl Syntax {
    /// Says what is wrong; `text` is the scanned text and `end` what its end is called.
    pub(super) fn reason(&self, text: &str, end: &str) -> String {
        let found = text.get(self.offset..).and_then(|rest| rest.chars().next());
        match (self.problem, found) {
            (Problem::Expected(what), Some(found)) => format!("expected {what}, found {found:?}"),
            (Problem::Expected(what), None) => format!("expected {what}, found {end}"),
            (Problem::Control, found) => {
                let code = found.map_or(0, u32::from);
                format!("a string holds the control character U+{code:04X}; write it as \\u{code:04x}")
            }
            (Problem::Escape, _) => "a backslash in a string begins no escape of JSON".to_owned(),
            (Problem::Depth, _) => format!("arrays and objects are nested more than {DEPTH_MAX} deep"),
        }
    }
}

/// A JSON value as it stands in the body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number's text.
    Number(&'a str),
    /// A string.
    Text(Text<'a>),
    /// An object's text, braces included.
    Object(&'a str),
    /// An array's text, brackets included.
    Array(&'a str),
}

/// A JSON string as it stands in the body, without its quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Text<'a> {
    /// The text between the quotes.
    pub(super) raw: &'a str,
    /// Whether it holds escapes.
    pub(super) escaped: bool,
}

impl<'a> Text<'a> {
    /// Resolves escapes; `None` when half of a surrogate pair stands alone, which no text can hold.
    pub(super) fn decode(self) -> Option<Cow<'a, str>> {
        if !self.escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        let mut out = String::with_capacity(self.raw.len());
        let mut rest = self.raw;
        while let Some(at) = rest.find('\\') {
            out.push_str(&rest[..at]);
            let (char, len) = unescape(&rest[at..])?;
            out.push(char);
            rest = &rest[at + len..];
        }
        out.push_str(rest);
        Some(Cow::Owned(out))
    }

    /// Resolves escapes of a text that may be kept.
    ///
    /// # Errors
    /// The reason why it may not: it is longer than `bytes_max`, or no text.
    pub(super) fn bounded(self, bytes_max: usize) -> Result<Cow<'a, str>, String> {
        let text = self.decode().ok_or("half of a surrogate pair stands alone in the text")?;
        if text.len() > bytes_max {
            return Err(format!("the text has {} bytes; at most {bytes_max} are accepted", text.len()));
        }
        Ok(text)
    }
}

/// Reads the escape that `text` begins with: its character and its length in bytes.
fn unescape(text: &str) -> Option<(char, usize)> {
    let char = match text.as_bytes().get(1)? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unescape_unicode(text),
        other => char::from(*other),
    };
    Some((char, 2))
}

fn unescape_unicode(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| u32::from_str_radix(text.get(at..at + 4)?, 16).ok();
    let first = unit(2)?;
    if !(0xD800..0xDC00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = unit(8).filter(|_| text.get(6..8) == Some("\\u"))?;
    if !(0xDC00..0xE000).contains(&second) {
        return None;
    }
    Some((char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))?, 12))
}

/// Steps through JSON text from left to right.
#[derive(Clone, Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

type Scan<T> = Result<T, Syntax>;

impl<'a> Scanner<'a> {
    /// Begins at byte `at` of `text`.
    pub(super) fn new(text: &'a str, at: usize) -> Self {
        Scanner { text, at }
    }

    /// The place of the next byte.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Steps over white space and returns the byte after it, unless the text ends.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// The fault that something else was expected here.
    #[cold]
    pub(super) fn expected<T>(&self, what: &'static str) -> Scan<T> {
        Err(Syntax { offset: self.at, problem: Problem::Expected(what) })
    }

    /// Steps over `byte`, and over white space before it.
    #[inline]
    fn step(&mut self, byte: u8, what: &'static str) -> Scan<()> {
        if self.peek() != Some(byte) {
            return self.expected(what);
        }
        self.at += 1;
        Ok(())
    }

    /// Checks that only white space is left.
    #[inline]
    pub(super) fn end(&mut self, what: &'static str) -> Scan<()> {
        if self.peek().is_some() { self.expected(what) } else { Ok(()) }
    }

    /// Steps into an object.
    #[inline]
    pub(super) fn open_object(&mut self) -> Scan<()> {
        self.step(b'{', "an object")
    }

    /// Steps to the next member of an object and over its key and colon; `None` when the object ends.
    #[inline]
    pub(super) fn next_key(&mut self, first: bool) -> Scan<Option<Text<'a>>> {
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !first => self.at += 1,
            _ if !first => return self.expected("\",\" or \"}\""),
            _ => {}
        }
        self.key(if first { "a key in quotes or \"}\"" } else { "a key in quotes" }).map(Some)
    }

    #[inline]
    fn key(&mut self, what: &'static str) -> Scan<Text<'a>> {
        if self.peek() != Some(b'"') {
            return self.expected(what);
        }
        let key = self.string()?;
        self.step(b':', "\":\"")?;
        Ok(key)
    }

    /// Steps into an array.
    #[inline]
    pub(super) fn open_array(&mut self) -> Scan<()> {
        self.step(b'[', "an array")
    }

    /// Steps to the next element of an array; `false` when the array ends.
    #[inline]
    pub(super) fn next_element(&mut self, first: bool) -> Scan<bool> {
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            _ if !first => self.expected("\",\" or \"]\""),
            _ => Ok(true),
        }
    }

    /// Reads one value of any kind.
    #[inline]
    pub(super) fn value(&mut self) -> Scan<Value<'a>> {
        match self.peek() {
            Some(open @ (b'{' | b'[')) => {
                let start = self.at;
                self.skip_container()?;
                let raw = &self.text[start..self.at];
                Ok(if open == b'{' { Value::Object(raw) } else { Value::Array(raw) })
            }
            _ => self.scalar(),
        }
    }

    #[inline]
    fn scalar(&mut self) -> Scan<Value<'a>> {
        match self.peek() {
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            _ => self.expected("a value"),
        }
    }

    fn literal(&mut self, word: &'static str, value: Value<'a>) -> Scan<Value<'a>> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.expected("a value");
        }
        self.at += word.len();
        Ok(value)
    }

    /// Steps over an array or object of any depth, checking all of it.
    fn skip_container(&mut self) -> Scan<()> {
        let mut open = OpenContainers::default();
        loop {
            let byte = self.peek();
            match byte {
                Some(b'{' | b'[') => {
                    let object = byte == Some(b'{');
                    open.push(object).ok_or(Syntax { offset: self.at, problem: Problem::Depth })?;
                    self.at += 1;
                    let more = if object { self.next_key(true)?.is_some() } else { self.next_element(true)? };
                    if more {
                        continue;
                    }
                    open.pop();
                }
                _ => {
                    self.scalar()?;
                }
            }
            loop {
                let Some(object) = open.top() else { return Ok(()) };
                let more = if object { self.next_key(false)?.is_some() } else { self.next_element(false)? };
                if more {
                    break;
                }
                open.pop();
            }
        }
    }

    /// Reads a string; the next byte is its opening quote.
    #[inline]
    fn string(&mut self) -> Scan<Text<'a>> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at = skip_plain(bytes, at);
            match bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Text { raw: &self.text[start..at], escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    at += escape_len(&bytes[at..]).ok_or(Syntax { offset: at, problem: Problem::Escape })?;
                }
                Some(_) => return Err(Syntax { offset: at, problem: Problem::Control }),
                None => {
                    self.at = at;
                    return self.expected("the closing quote of a string");
                }
            }
        }
    }

    /// Reads a number: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`.
    #[inline]
    fn number(&mut self) -> Scan<&'a str> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        if bytes[start] == b'-' {
            self.at += 1;
        }
        if bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    #[inline]
    fn digits(&mut self) -> Scan<()> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        while bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { self.expected("a digit") } else { Ok(()) }
    }
}

/// Finds the first byte from `at` on that is a quote, a backslash or a control character, eight at a time.
///
/// Of the marked bytes in a word the lowest is always a true one: a borrow that marks a wrong byte comes from a
/// true one below it.
#[inline]
fn skip_plain(bytes: &[u8], mut at: usize) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (LOW * b'"' as u64);
        let backslash = word ^ (LOW * b'\\' as u64);
        let zero = |word: u64| word.wrapping_sub(LOW) & !word;
        let control = word.wrapping_sub(LOW * 0x20) & !word;
        let marked = (zero(quote) | zero(backslash) | control) & HIGH;
        if marked != 0 {
            return at + (marked.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
        at += 1;
    }
    at
}

/// The length of the escape that `bytes` begins with, if it is one.
fn escape_len(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' if bytes.get(2..6)?.iter().all(u8::is_ascii_hexdigit) => Some(6),
        _ => None,
    }
}

/// Which containers are open: a stack of one bit each, `true` for an object.
#[derive(Default)]
struct OpenContainers {
    objects: u128,
    depth: u32,
}

impl OpenContainers {
    fn push(&mut self, object: bool) -> Option<()> {
        if self.depth == DEPTH_MAX {
            return None;
        }
        self.objects = self.objects << 1 | u128::from(object);
        self.depth += 1;
        Some(())
    }

    fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.objects & 1 == 1)
    }
}
