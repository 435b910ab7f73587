//! Columns that a network sees: numbers in standard deviations from their mean, texts as inputs of 0 and 1.

use crate::cli::failure::{Failure, Result, quoted};
use crate::cli::table::{Categories, CategoryReader, Column, finite};

/// A column of texts may have this many of them.
const MOST_TEXTS: usize = 256;

/// So many standard deviations from the mean a number is of another kind than those that were trained with, and not far from
/// an overflow in the network.
const FARTHEST: f64 = 1e12;

/// Reads a column without knowing whether it is one of numbers.
pub struct FeatureReader {
    name: String,
    reading: Reading,
    /// How many fields are numbers, of how many; and the first that is none.
    numbers: usize,
    fields: usize,
    other: Option<String>,
}

enum Reading {
    /// Numbers so far, few enough different ones to be texts.
    Either(Vec<f64>, CategoryReader),
    Numbers(Vec<f64>),
    Texts(CategoryReader),
}

impl FeatureReader {
    /// A column of this name.
    pub fn new(name: &str) -> Self {
        let reading = Reading::Either(Vec::new(), CategoryReader::new(name, MOST_TEXTS));
        Self { name: name.to_owned(), reading, numbers: 0, fields: 0, other: None }
    }

    /// The column, and what the user should know of it.
    pub fn finish(self) -> (Feature, Option<String>) {
        let name = quoted(self.name.as_bytes());
        let other = self.other.filter(|_| 2 * self.numbers > self.fields);
        let note =
            other.map(|other| format!("note: the column {name} is taken as one of texts, since {other} is no number"));
        let values = match self.reading {
            Reading::Either(numbers, _) | Reading::Numbers(numbers) => Values::Numbers(numbers),
            Reading::Texts(texts) => Values::Texts(texts.sorted()),
        };
        (Feature { name: self.name, values }, note)
    }
}

impl Column for FeatureReader {
    fn name(&self) -> &str {
        &self.name
    }

    fn push(&mut self, field: &[u8]) -> Result<(), String> {
        let number = finite(field);
        self.fields += 1;
        self.numbers += usize::from(number.is_ok());
        match (&mut self.reading, number) {
            (Reading::Either(numbers, texts), Ok(number)) => {
                numbers.push(number);
                if texts.push(field).is_err() {
                    self.reading = Reading::Numbers(std::mem::take(numbers));
                }
                Ok(())
            }
            (Reading::Either(_, texts), Err(_)) => {
                texts.push(field)?;
                self.other = Some(quoted(field.trim_ascii()));
                self.reading = Reading::Texts(std::mem::replace(texts, CategoryReader::new("", 0)));
                Ok(())
            }
            (Reading::Numbers(numbers), Ok(number)) => {
                numbers.push(number);
                Ok(())
            }
            (Reading::Numbers(_), Err(problem)) => Err(problem),
            (Reading::Texts(texts), _) => texts.push(field).map_err(|problem| match &self.other {
                Some(other) if problem.contains("column of numbers") => format!("{problem} ({other} is no number)"),
                _ => problem,
            }),
        }
    }
}

/// A column of the file.
pub struct Feature {
    pub name: String,
    pub values: Values,
}

/// What a column holds, for every row.
pub enum Values {
    Numbers(Vec<f64>),
    Texts(Categories),
}

/// A column as inputs of a network, by what the training rows hold.
#[derive(serde::Serialize)]
pub struct Input {
    column: String,
    #[serde(flatten)]
    encoding: Encoding,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
enum Encoding {
    /// `(x - mean) / deviation`.
    Number {
        #[serde(skip)]
        values: Vec<f64>,
        mean: f64,
        /// `sqrt(mean of (x - mean)^2)`, above 0.
        deviation: f64,
    },
    /// An input for each of these texts, which is 1 where it stands; all are 0 where another one does.
    Text {
        #[serde(skip)]
        ids: Vec<u32>,
        /// The input of every text of the file, if the training rows have it.
        #[serde(skip)]
        places: Vec<Option<usize>>,
        texts: Vec<String>,
    },
}

impl Input {
    /// Of a column; `None` if it is the same in all training rows.
    pub fn of(feature: Feature, train: &[usize]) -> Option<Self> {
        let encoding = match feature.values {
            Values::Numbers(values) => {
                let (mean, deviation) = moments(train.iter().map(|&row| values[row]));
                (deviation > 0.0).then_some(Encoding::Number { values, mean, deviation })
            }
            Values::Texts(column) => {
                let mut known = vec![false; column.texts.len()];
                train.iter().for_each(|&row| known[column.ids[row] as usize] = true);
                let mut inputs = 0..;
                let places: Vec<Option<usize>> =
                    known.iter().map(|known| if *known { inputs.next() } else { None }).collect();
                let named = column.display_texts().into_iter().zip(&known);
                let texts: Vec<String> = named.filter(|(_, known)| **known).map(|(text, _)| text).collect();
                (texts.len() > 1).then_some(Encoding::Text { ids: column.ids, places, texts })
            }
        };
        Some(Self { column: feature.name, encoding: encoding? })
    }

    fn width(&self) -> usize {
        match &self.encoding {
            Encoding::Number { .. } => 1,
            Encoding::Text { texts, .. } => texts.len(),
        }
    }

    /// Writes the inputs of a row, which are 0.
    fn write(&self, row: usize, inputs: &mut [f32]) -> Result<()> {
        match &self.encoding {
            Encoding::Number { values, mean, deviation } => {
                // (Halved, the difference does not overflow.)
                let value = (values[row] / 2.0 - mean / 2.0) / deviation * 2.0;
                if value.abs() > FARTHEST {
                    return Err(Failure::new(format!(
                        "column {}: {:e} is more than {FARTHEST:e} standard deviations from the mean of the training rows",
                        quoted(self.column.as_bytes()),
                        values[row]
                    )));
                }
                inputs[0] = value as f32;
            }
            Encoding::Text { ids, places, .. } => {
                if let Some(place) = places[ids[row] as usize] {
                    inputs[place] = 1.0;
                }
            }
        }
        Ok(())
    }
}

/// How many inputs the columns make together.
pub fn width(inputs: &[Input]) -> usize {
    inputs.iter().map(Input::width).sum()
}

/// The inputs of these rows, `[rows, width]`.
///
/// # Errors
/// A number that is too far from those of the training rows.
pub fn encode(inputs: &[Input], rows: &[usize]) -> Result<Vec<f32>> {
    let width = width(inputs);
    let mut encoded = vec![0.0; rows.len() * width];
    for (line, &row) in encoded.chunks_exact_mut(width.max(1)).zip(rows) {
        let mut rest = line;
        for input in inputs {
            let (own, others) = rest.split_at_mut(input.width());
            input.write(row, own)?;
            rest = others;
        }
    }
    Ok(encoded)
}

/// Mean and standard deviation of finite numbers, however large.
fn moments(numbers: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = numbers.clone().count() as f64;
    let largest = numbers.clone().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    if largest == 0.0 {
        return (0.0, 0.0);
    }
    // (Divided by the largest, no sum of squares overflows; and equal numbers are ones, whose mean is exact.)
    let mean = numbers.clone().map(|x| x / largest).sum::<f64>() / n;
    let square = numbers.map(|x| (x / largest - mean).powi(2)).sum::<f64>() / n;
    (mean * largest, square.sqrt() * largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[&str]) -> Result<(Feature, Option<String>), String> {
        let mut reader = FeatureReader::new("x");
        fields.iter().try_for_each(|field| reader.push(field.as_bytes()))?;
        Ok(reader.finish())
    }

    fn encoded(fields: &[&str], train: &[usize]) -> Option<Vec<f32>> {
        let input = Input::of(read(fields).unwrap().0, train)?;
        Some(encode(&[input], &(0..fields.len()).collect::<Vec<_>>()).unwrap())
    }

    #[test]
    fn numbers_are_standardised_by_the_training_rows() {
        // Mean 2, deviation 1 of the first two.
        assert_eq!(encoded(&["1", " 3", "4.5e0", "-2"], &[0, 1]), Some(vec![-1.0, 1.0, 2.5, -4.0]));
        assert_eq!(encoded(&["1e308", "-1e308", "0"], &[0, 1]), Some(vec![1.0, -1.0, 0.0]));
        assert_eq!(encoded(&["0.1", "0.1", "0.1", "7"], &[0, 1, 2]), None);
        assert_eq!(encoded(&["0", "0", "1"], &[0, 1]), None);
        let far = Input::of(read(&["0", "1", "1e300"]).unwrap().0, &[0, 1]).unwrap();
        assert!(
            encode(&[far], &[2]).unwrap_err().to_string().contains("column \"x\": 1e300 is more than 1e12 standard")
        );
    }

    #[test]
    fn texts_are_inputs_of_their_own() {
        let fields = ["b", "a", "c", "b", "d"];
        // "c" is not in the training rows, so that it has no input.
        let expected = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0; 3], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        assert_eq!(encoded(&fields, &[0, 1, 4]), Some(expected.concat()));
        assert_eq!(encoded(&fields, &[0, 3]), None);
        let inputs = [&["1", "3"], &["u", "v"]].map(|fields| Input::of(read(fields).unwrap().0, &[0, 1]).unwrap());
        assert_eq!(encode(&inputs, &[1, 0]).unwrap(), [1.0, 0.0, 1.0, -1.0, 1.0, 0.0]);
    }

    #[test]
    fn a_column_is_one_of_numbers_if_all_fields_are() {
        let is_number = |fields: &[&str]| matches!(read(fields).unwrap().0.values, Values::Numbers(_));
        assert!(is_number(&["1", "2", "-3e4"]) && !is_number(&["1", "2", "x"]) && !is_number(&["nan", "1"]));
        let note = |fields: &[&str]| read(fields).unwrap().1;
        assert_eq!(
            note(&["1", "2", "?"]).unwrap(),
            "note: the column \"x\" is taken as one of texts, since \"?\" is no number"
        );
        assert_eq!((note(&["1", "?", "?"]), note(&["1", "2"])), (None, None));
        assert_eq!(read(&["1", " "]).err().unwrap(), "the value is missing");
        assert_eq!(read(&["a", ""]).err().unwrap(), "the value is missing");
        let many: Vec<String> = (0..300).map(|i| i.to_string()).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(is_number(&many));
        many.push("?");
        assert_eq!(read(&many).err().unwrap(), "\"?\" is not a number");
        many.insert(0, "?");
        let told = read(&many).err().unwrap();
        assert!(told.contains("more than 256 different values") && told.ends_with("(\"?\" is no number)"), "{told}");
    }
}
