//! Columns of a CSV file by name, as numbers or as categories. Every error names the file, the line and the column.

use std::borrow::Cow;
use std::collections::HashMap;

use super::failure::{Result, quoted};
use super::progress::Progress;
use super::records::{Records, Source};

/// A column that takes in the fields of its rows.
pub trait Column {
    /// Its name in the header.
    fn name(&self) -> &str;
    /// Takes in the next field, or says what is wrong with it.
    fn push(&mut self, field: &[u8]) -> Result<(), String>;
}

/// What a column of numbers may hold: everything finite that this says yes to.
pub type Rule<'a> = Box<dyn Fn(f64) -> Result<(), String> + 'a>;

/// A column of finite numbers.
pub struct Numbers<'a> {
    pub name: String,
    rule: Rule<'a>,
    pub values: Vec<f64>,
}

impl<'a> Numbers<'a> {
    /// A column of any finite numbers.
    pub fn any(name: &str) -> Self {
        Self::new(name, |_| Ok(()))
    }

    pub fn new(name: &str, rule: impl Fn(f64) -> Result<(), String> + 'a) -> Self {
        Self { name: name.to_owned(), rule: Box::new(rule), values: Vec::new() }
    }
}

impl Column for Numbers<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn push(&mut self, field: &[u8]) -> Result<(), String> {
        let value = finite(field)?;
        (self.rule)(value).map_err(|problem| format!("{} {problem}", quoted(field.trim_ascii())))?;
        self.values.push(value);
        Ok(())
    }
}

/// The number that a field holds.
pub fn finite(field: &[u8]) -> Result<f64, String> {
    let text = field.trim_ascii();
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    let value = number.ok_or_else(|| not_a_number(text))?;
    if value.is_finite() { Ok(value) } else { Err(format!("{} is not a finite number", quoted(text))) }
}

fn not_a_number(text: &[u8]) -> String {
    const WORDS: [&[u8]; 4] = [b"true", b"false", b"yes", b"no"];
    if text.is_empty() {
        "the value is missing".to_owned()
    } else if WORDS.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        format!("{} is not a number; write 1 for true and 0 for false", quoted(text))
    } else {
        format!("{} is not a number", quoted(text))
    }
}

/// A column of categories: every distinct text has an id.
pub struct Categories {
    pub name: String,
    /// The id of every row.
    pub ids: Vec<u32>,
    /// The texts, by id.
    pub texts: Vec<Box<[u8]>>,
}

impl Categories {
    /// The texts for people to read.
    pub fn display_texts(&self) -> Vec<String> {
        self.texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }
}

/// Reads a column of categories.
pub struct CategoryReader {
    name: String,
    most: usize,
    ids: Vec<u32>,
    known: HashMap<Box<[u8]>, u32>,
}

impl CategoryReader {
    /// A column with at most `most` distinct texts.
    pub fn new(name: &str, most: usize) -> Self {
        Self { name: name.to_owned(), most, ids: Vec::new(), known: HashMap::new() }
    }

    /// The categories, numbered in the order of their first rows.
    pub fn in_order_of_rows(self) -> Categories {
        let mut texts = vec![Box::default(); self.known.len()];
        for (text, id) in self.known {
            texts[id as usize] = text;
        }
        Categories { name: self.name, ids: self.ids, texts }
    }

    /// The categories, numbered in the order of their texts.
    pub fn sorted(self) -> Categories {
        let mut known: Vec<(Box<[u8]>, u32)> = self.known.into_iter().collect();
        known.sort_unstable();
        let mut rank = vec![0; known.len()];
        for (new, (_, old)) in (0..).zip(&known) {
            rank[*old as usize] = new;
        }
        let ids = self.ids.into_iter().map(|id| rank[id as usize]).collect();
        Categories { name: self.name, ids, texts: known.into_iter().map(|(text, _)| text).collect() }
    }

    fn add(&mut self, text: &[u8]) -> Result<u32, String> {
        if self.known.len() >= self.most {
            return Err(format!(
                "more than {} different values; is it a column of numbers? If not, merge rare ones",
                self.most
            ));
        }
        let id = u32::try_from(self.known.len()).map_err(|_| "too many different values".to_owned())?;
        self.known.insert(text.into(), id);
        Ok(id)
    }
}

impl Column for CategoryReader {
    fn name(&self) -> &str {
        &self.name
    }

    fn push(&mut self, field: &[u8]) -> Result<(), String> {
        if field.trim_ascii().is_empty() {
            return Err("the value is missing".to_owned());
        }
        let id = match self.known.get(field) {
            Some(&id) => id,
            None => self.add(field)?,
        };
        self.ids.push(id);
        Ok(())
    }
}

/// A CSV file whose header has been read.
pub struct Table<'a> {
    records: Records<'a>,
    bytes: u64,
    header_line: u64,
    header: Vec<String>,
    /// The header as it lies in the file, and its line end.
    raw_header: (Vec<u8>, Vec<u8>),
}

/// How much a reading found, to hold a second one against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub rows: usize,
    pub digest: u64,
}

impl<'a> Table<'a> {
    pub fn open(source: &'a mut Source) -> Result<Self> {
        let bytes = source.len();
        let mut records = source.records()?;
        let Some(record) = records.next()? else {
            return Err(records.failure(1, "the file is empty; a header line with column names was expected"));
        };
        let text = |index| String::from_utf8_lossy(&record.field(index)).into_owned();
        let (header_line, header) = (record.line, (0..record.len()).map(text).collect());
        let raw_header = (record.raw.to_vec(), record.line_end.to_vec());
        Ok(Self { records, bytes, header_line, header, raw_header })
    }

    /// The names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The header as it lies in the file, and its line end; that is empty if nothing follows.
    pub fn raw_header(&self) -> (&[u8], &[u8]) {
        (&self.raw_header.0, &self.raw_header.1)
    }

    /// Fails if a column has no name.
    pub fn require_names(&self) -> Result<()> {
        match self.header.iter().position(|name| name.trim().is_empty()) {
            None => Ok(()),
            Some(index) => Err(self.records.failure(self.header_line, format!("column {} has no name", index + 1))),
        }
    }

    /// Fails if there is a column of this name.
    pub fn require_absent(&self, name: &str) -> Result<()> {
        if self.header.iter().any(|column| column == name) {
            let what = format!("there is a column {} already, which is to be written", quoted(name.as_bytes()));
            return Err(self.records.failure(self.header_line, what));
        }
        Ok(())
    }

    /// Reads all rows into the columns.
    pub fn read(mut self, columns: &mut [&mut dyn Column], progress: &Progress) -> Result<Extent> {
        let places = columns.iter().map(|column| self.place(column.name())).collect::<Result<Vec<_>>>()?;
        progress.stage("reading", self.bytes);
        let mut rows = 0;
        while let Some(record) = self.records.next()? {
            let line = record.line;
            if record.len() != self.header.len() {
                let what = format!("{} fields where the header has {}", record.len(), self.header.len());
                return Err(self.records.failure(line, what));
            }
            for (column, &place) in columns.iter_mut().zip(&places) {
                if let Err(what) = column.push(&record.field(place)) {
                    let what = format!("column {}: {what}", quoted(column.name().as_bytes()));
                    return Err(self.records.failure(line, what));
                }
            }
            rows += 1;
            progress.at(rows, || self.records.bytes());
        }
        if rows == 0 {
            let what = "no rows follow the header";
            return Err(self.records.failure(self.header_line, what));
        }
        Ok(Extent { rows, digest: self.records.digest() })
    }

    /// Reads the rows one by one, these columns of them.
    pub fn rows(self, columns: &[&str]) -> Result<Rows<'a>> {
        let places = columns.iter().map(|name| self.place(name)).collect::<Result<Vec<_>>>()?;
        let names = columns.iter().map(|&name| name.to_owned()).collect();
        Ok(Rows { records: self.records, width: self.header.len(), places, names })
    }

    fn place(&self, name: &str) -> Result<usize> {
        let mut places = (0..self.header.len()).filter(|&index| self.header[index] == name);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => {
                let what = format!("the header has more than one column {}", quoted(name.as_bytes()));
                Err(self.records.failure(self.header_line, what))
            }
            (None, _) => {
                let hint = match self.header.as_slice() {
                    [one] if one.contains([';', '\t']) => "; the separator must be a comma",
                    _ => "",
                };
                let what = format!("no column {}; the columns are {}{hint}", quoted(name.as_bytes()), self.columns());
                Err(self.records.failure(self.header_line, what))
            }
        }
    }

    fn columns(&self) -> String {
        const MOST: usize = 50;
        let names: Vec<String> = self.header.iter().take(MOST).map(|name| quoted(name.as_bytes())).collect();
        let more = if self.header.len() > MOST { ", ..." } else { "" };
        names.join(", ") + more
    }
}

/// The rows of a CSV file, one by one.
pub struct Rows<'a> {
    records: Records<'a>,
    width: usize,
    places: Vec<usize>,
    names: Vec<String>,
}

impl<'a> Rows<'a> {
    /// Hands the next row over: its bytes, and its fields in the order of the columns; `false` at the end. What is wrong
    /// with a column is told by its number and becomes an error that names the line.
    pub fn next(&mut self, take: impl FnOnce(&[u8], &[Cow<'_, [u8]>]) -> Result<(), (usize, String)>) -> Result<bool> {
        let Some(record) = self.records.next()? else { return Ok(false) };
        let line = record.line;
        if record.len() != self.width {
            let what = format!("{} fields where the header has {}", record.len(), self.width);
            return Err(self.records.failure(line, what));
        }
        let fields: Vec<Cow<'_, [u8]>> = self.places.iter().map(|&place| record.field(place)).collect();
        take(record.raw, &fields).map(|()| true).map_err(|(column, what)| {
            let name = quoted(self.names[column].as_bytes());
            self.records.failure(line, format!("column {name}: {what}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_numbered() {
        let read = || {
            let mut reader = CategoryReader::new("x", 3);
            ["b", "a", "b", "c"].iter().for_each(|text| reader.push(text.as_bytes()).unwrap());
            reader
        };
        let (sorted, unsorted) = (read().sorted(), read().in_order_of_rows());
        assert_eq!((sorted.ids.as_slice(), sorted.display_texts().concat()), (&[1, 0, 1, 2][..], "abc".to_owned()));
        assert_eq!((unsorted.ids.as_slice(), unsorted.display_texts().concat()), (&[0, 1, 0, 2][..], "bac".to_owned()));
    }

    #[test]
    fn fields_that_cannot_be_used_are_named() {
        let rule = |value| if value > 0.0 { Ok(()) } else { Err("is not above 0".to_owned()) };
        let mut numbers = Numbers::new("x", rule);
        for (field, told) in [
            ("abc", "\"abc\" is not a number"),
            ("True", "write 1 for true"),
            ("", "the value is missing"),
            ("-inf", "\"-inf\" is not a finite number"),
            ("NaN", "\"NaN\" is not a finite number"),
            ("1e999", "is not a finite number"),
            ("-1", "\"-1\" is not above 0"),
        ] {
            assert!(numbers.push(field.as_bytes()).unwrap_err().contains(told), "{field}");
        }
        assert!(numbers.push(b" +1.5e0\t").is_ok() && numbers.values == [1.5]);
        let mut few = CategoryReader::new("x", 1);
        assert!(few.push(b"a").is_ok() && few.push(b"a").is_ok() && few.push(b" ").is_err());
        assert!(few.push(b"b").unwrap_err().contains("more than 1 different values"));
    }
}
