//! CSV as it lies in the file: records of raw bytes, with the lines they begin on.
//!
//! Rows are written back byte for byte with a column more, and errors name lines. Both want the bytes as they are: the
//! `csv` crate gives unescaped fields, names wrong lines after CRLF line ends and blank lines, and takes a quote that is
//! never closed for a field that reaches to the end of the file.

use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::ops::Range;
use std::path::Path;

use super::failure::{Failure, Result};

/// A CSV input that can be read more than once, unless it is read as it comes.
pub struct Source {
    name: String,
    bytes: Bytes,
}

enum Bytes {
    File(File, u64),
    /// What came out of a pipe, which can be read only once.
    Spooled(Vec<u8>),
    /// What is read once, as it comes.
    Live(Box<dyn BufRead>),
}

impl Source {
    /// Opens a file to be read once, line by line as they come; `-` is standard input.
    pub fn live(path: &Path) -> Result<Self> {
        let name = name(path);
        let bytes = if path == Path::new("-") {
            Bytes::Live(Box::new(BufReader::with_capacity(1 << 16, io::stdin())))
        } else {
            let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
            Bytes::Live(Box::new(BufReader::with_capacity(1 << 16, file)))
        };
        Ok(Self { name, bytes })
    }

    /// Opens a file; `-` is standard input.
    pub fn open(path: &Path) -> Result<Self> {
        let name = name(path);
        let bytes = Self::bytes(path).map_err(|error| unreadable(&name, &error))?;
        Ok(Self { name, bytes })
    }

    fn bytes(path: &Path) -> io::Result<Bytes> {
        if path == Path::new("-") {
            return spool(io::stdin().lock());
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() { Ok(Bytes::File(file, metadata.len())) } else { spool(file) }
    }

    /// What messages call the input.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of bytes, to measure progress by; 0 where that is not known.
    pub fn len(&self) -> u64 {
        match &self.bytes {
            Bytes::File(_, len) => *len,
            Bytes::Spooled(bytes) => bytes.len() as u64,
            Bytes::Live(_) => 0,
        }
    }

    /// The records from the first one on.
    pub fn records(&mut self) -> Result<Records<'_>> {
        let input: io::Result<Box<dyn BufRead + '_>> = match &mut self.bytes {
            Bytes::File(file, _) => {
                file.rewind().map(|()| Box::new(BufReader::with_capacity(1 << 16, file)) as Box<dyn BufRead>)
            }
            Bytes::Spooled(bytes) => Ok(Box::new(Cursor::new(&*bytes))),
            Bytes::Live(input) => Ok(Box::new(input)),
        };
        input.and_then(|input| Records::new(&self.name, input)).map_err(|error| unreadable(&self.name, &error))
    }
}

/// What messages call an input.
fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

fn spool(mut input: impl Read) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    Ok(Bytes::Spooled(bytes))
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::new(format!("{name}: cannot be read: {error}"))
}

/// Reads one record after the other. Blank lines are skipped, and so is a byte order mark.
pub struct Records<'a> {
    name: &'a str,
    input: Box<dyn BufRead + 'a>,
    /// The record read last, with its line end.
    raw: Vec<u8>,
    /// Where its content ends and its line end begins.
    end: usize,
    fields: Vec<Range<usize>>,
    lines: u64,
    bytes: u64,
    hasher: DefaultHasher,
}

/// One record, as it lies in the file.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The line that it begins on; the first is 1.
    pub line: u64,
    /// Its bytes without the line end.
    pub raw: &'a [u8],
    /// Its line end; empty at the end of a file that has none there.
    pub line_end: &'a [u8],
    fields: &'a [Range<usize>],
}

impl<'a> Record<'a> {
    /// The number of fields, at least 1.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// A field without its quotes; empty if there is no such field.
    pub fn field(&self, index: usize) -> Cow<'a, [u8]> {
        let raw = self.fields.get(index).map_or(&[] as &[u8], |range| &self.raw[range.clone()]);
        match raw {
            [b'"', inner @ .., b'"'] => unescape(inner),
            plain => Cow::Borrowed(plain),
        }
    }
}

fn unescape(quoted: &[u8]) -> Cow<'_, [u8]> {
    if !quoted.contains(&b'"') {
        return Cow::Borrowed(quoted);
    }
    // In here quotes come in pairs, of which the first is dropped.
    let mut dropped = false;
    let keep = |byte: &u8| {
        dropped = *byte == b'"' && !dropped;
        !dropped
    };
    Cow::Owned(quoted.iter().copied().filter(keep).collect())
}

/// A text as a CSV field, quoted if it must be.
pub fn escape(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}

impl<'a> Records<'a> {
    fn new(name: &'a str, mut input: Box<dyn BufRead + 'a>) -> io::Result<Self> {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        if input.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            input.consume(BYTE_ORDER_MARK.len());
        }
        let hasher = DefaultHasher::new();
        Ok(Self { name, input, raw: Vec::new(), end: 0, fields: Vec::new(), lines: 0, bytes: 0, hasher })
    }

    /// The next record, or `None` at the end of the input.
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        loop {
            self.raw.clear();
            self.fields.clear();
            if !self.read_line()? {
                return Ok(None);
            }
            if self.end > 0 {
                break;
            }
        }
        let line = self.lines;
        self.split()?;
        let (raw, line_end) = self.raw.split_at(self.end);
        Ok(Some(Record { line, raw, line_end, fields: &self.fields }))
    }

    /// How many bytes were read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A hash of all that was read, to tell whether a second reading read the same.
    pub fn digest(&self) -> u64 {
        self.hasher.finish()
    }

    /// An error on this line of the input.
    pub fn failure(&self, line: u64, what: impl std::fmt::Display) -> Failure {
        Failure::new(format!("{}: line {line}: {what}", self.name))
    }

    /// Appends one line of the file; `false` at the end.
    fn read_line(&mut self) -> Result<bool> {
        let start = self.raw.len();
        let read = self.input.read_until(b'\n', &mut self.raw).map_err(|error| unreadable(self.name, &error))?;
        let line = &self.raw[start..];
        self.hasher.write(line);
        self.bytes += read as u64;
        self.lines += u64::from(read > 0);
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        self.end = start + content.len();
        Ok(read > 0)
    }

    /// Finds the fields of the record that begins with the line just read, and reads the rest of it.
    fn split(&mut self) -> Result<()> {
        let mut start = 0;
        loop {
            let end = if self.raw.get(start) == Some(&b'"') { self.quoted_end(start)? } else { self.plain_end(start)? };
            self.fields.push(start..end);
            if end == self.end {
                return Ok(());
            }
            start = end + 1;
        }
    }

    fn plain_end(&self, start: usize) -> Result<usize> {
        let Some(length) = self.raw[start..self.end].iter().position(|byte| matches!(byte, b',' | b'\r')) else {
            return Ok(self.end);
        };
        let end = start + length;
        // Others take a lone carriage return for a line end and would read the output in another way than the input.
        if self.raw[end] == b',' {
            Ok(end)
        } else {
            Err(self.failure(self.lines, "a carriage return without a line feed; end lines with LF or CRLF"))
        }
    }

    /// The end of the field whose opening quote is at `start`; it may be on a later line.
    fn quoted_end(&mut self, start: usize) -> Result<usize> {
        let opened = self.lines;
        let mut at = start + 1;
        loop {
            match self.raw[at..].iter().position(|&byte| byte == b'"') {
                None => {
                    at = self.raw.len();
                    if !self.read_line()? {
                        return Err(self.failure(opened, "a quote is opened and never closed"));
                    }
                }
                Some(offset) if self.raw.get(at + offset + 1) == Some(&b'"') => at += offset + 2,
                Some(offset) => {
                    at += offset + 1;
                    break;
                }
            }
        }
        if at == self.end || self.raw[at] == b',' {
            Ok(at)
        } else {
            Err(self.failure(self.lines, "text follows a closing quote; quotes within quotes are doubled"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (u64, Vec<String>);

    fn read(text: &[u8]) -> Result<Vec<Row>> {
        let mut source = Source { name: "x".to_owned(), bytes: Bytes::Spooled(text.to_vec()) };
        let mut records = source.records()?;
        let mut rows = Vec::new();
        while let Some(record) = records.next()? {
            let text = |index| String::from_utf8_lossy(&record.field(index)).into_owned();
            rows.push((record.line, (0..record.len()).map(text).collect()));
        }
        Ok(rows)
    }

    fn row(line: u64, fields: &[&str]) -> Row {
        (line, fields.iter().map(|&field| field.to_owned()).collect())
    }

    #[test]
    fn fields_and_lines() {
        let text = b"\xef\xbb\xbfa,b\r\n\r\n\"1\n\"\"2\"\"\",\n\n,5\" x\n\"\",\"y,z\"";
        let rows = [row(1, &["a", "b"]), row(3, &["1\n\"2\"", ""]), row(6, &["", "5\" x"]), row(7, &["", "y,z"])];
        assert_eq!(read(text).unwrap(), rows);
    }

    #[test]
    fn malformed_quotes_are_errors() {
        assert!(read(b"a\n\"b\nc\n").unwrap_err().to_string().contains("line 2: a quote is opened"));
        assert!(read(b"a\n\"b\n\"c\n").unwrap_err().to_string().contains("line 3: text follows"));
        assert!(read(b"a\nb\rc\n").unwrap_err().to_string().contains("line 2: a carriage return"));
        assert!(read(b"\"").is_err());
        assert!(read(b"").unwrap().is_empty() && read(b"\n\r\n").unwrap().is_empty());
    }

    #[test]
    fn escaped_texts_read_back() {
        for text in ["plain", "a,b", "say \"hi\"", "two\nlines", "\r"] {
            assert_eq!(read(format!("{}\n", escape(text)).as_bytes()).unwrap(), [row(1, &[text])]);
        }
    }
}
