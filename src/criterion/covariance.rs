//! Covariance with continuous sensitive features: the predictions do not rise or fall with them.

use super::Criterion;
use super::parity::check_epsilon;
use crate::batch::Offsets;
use crate::cells::{Population, Strata};
use crate::constraints::{ConstraintSet, DenseRow};
use crate::error::{Error, Result};
use crate::sum::Sum;

/// `|mean((s^j - mean(s^j)) y)| <= epsilon` for every continuous sensitive feature `s` and `j = 1..=moments`, in every
/// problem: dense rows. Means are weighted where samples have weights.
///
/// For `j = 1` this is the covariance that Zafar, Valera, Gomez Rodriguez and Gummadi bound ("Fairness constraints:
/// mechanisms for fair classification", AISTATS 2017, equation 2), here of `y` itself. Features that are uncorrelated with
/// `y` may still tell it apart (the young and the old against those between); higher moments take that away power by
/// power.
///
/// # Units
/// Epsilon is in units of the predictions times units of `s^j`: an age in years with epsilon 0.1 allows a covariance of
/// 0.1 score years with the age, and of 0.1 score years^2 with its square, which is a much stricter demand. That is the
/// definition in the literature, and the default. [`standardised`](Self::standardised) puts
/// `(s - mean s) / deviation s` in the place of `s`; epsilon is then in units of the predictions, of one size for all
/// features and moments, and independent of whether an age is in years or in days: with several features or moments
/// nearly everyone wants this. Raw powers of a feature that varies little around a large number (a time stamp, a year of
/// birth) are also nearly the same row, up to the last digits of `f64`, which may end a problem at the iteration limit.
///
/// ```
/// use fairlayer::*;
///
/// let (scores, age) = ([0.2, 0.3, 0.6, 0.9], [20.0, 30.0, 40.0, 70.0]);
/// let criterion = Covariance::within(0.02).features(["age"]).standardised();
/// let set = criterion.constraints(&Population::default())?;
/// let mut projector = Projector::<f64>::plan(Device::cpu(), &set, Capacities::single(4), Settings::default())?;
/// let offsets = Offsets::Equal { problems: 1, n: 4 };
/// let coefficients = criterion.coefficients(&[&age], &offsets, None)?;
/// let batch = Batch::new(&scores, offsets).coefficients(&coefficients).bounds(0.0, 1.0);
/// let solution = projector.project(&batch)?;
/// assert_eq!(format!("{:.2?}", solution.read()?.y), "[0.46, 0.43, 0.60, 0.50]");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Covariance {
    /// The largest allowed covariance, in units of the predictions times units of `s^j`.
    pub epsilon: f64,
    /// The highest power of a feature, 1 to [`MAX_MOMENTS`](Self::MAX_MOMENTS).
    pub moments: usize,
    /// The features' names, for reports; their number is what matters.
    pub features: Vec<String>,
    /// Whether features are standardised problem by problem, by their (weighted) mean and standard deviation.
    pub standardised: bool,
}

impl Covariance {
    /// More moments than this say nothing that rounding would leave.
    pub const MAX_MOMENTS: usize = 32;

    /// The covariance with one feature, called `s`, is at most `epsilon` in size.
    pub fn within(epsilon: f64) -> Self {
        Self { epsilon, moments: 1, features: vec!["s".to_owned()], standardised: false }
    }

    /// The covariances with the powers 1 to `moments`.
    #[must_use]
    pub fn moments(self, moments: usize) -> Self {
        Self { moments, ..self }
    }

    /// These features, each for itself. [`coefficients`](Self::coefficients) takes their values in this order.
    #[must_use]
    pub fn features<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        Self { features: names.into_iter().map(Into::into).collect(), ..self }
    }

    /// Standardised features; see [units](Self#units).
    #[must_use]
    pub fn standardised(self) -> Self {
        Self { standardised: true, ..self }
    }

    /// The number of rows: features times moments. Feature by feature, power by power.
    pub fn rows(&self) -> usize {
        self.features.len().saturating_mul(self.moments)
    }

    /// The coefficients of the rows, problem by problem `[rows, n]`: what
    /// [`Batch::coefficients`](crate::Batch::coefficients) takes. `features` has the values of every feature, `[n]` each
    /// over all problems; `weights`, `[n]`, are those of the batch.
    ///
    /// A feature with one value only in a problem, or a power that is the same for all samples up to rounding (the square
    /// of -1 and 1), has coefficients that are 0, exactly: its row is met there by any predictions.
    ///
    /// # Errors
    /// Arrays of other lengths than the offsets have, values that are not finite, weights that are not positive and
    /// finite, moments out of range, or powers that overflow.
    pub fn coefficients(
        &self,
        features: &[&[f64]],
        offsets: &Offsets<'_>,
        weights: Option<&[f64]>,
    ) -> Result<Vec<f64>> {
        let mut coefficients = Vec::new();
        self.coefficients_into(features, offsets, weights, &mut coefficients)?;
        Ok(coefficients)
    }

    /// As [`coefficients`](Self::coefficients), into a vector whose memory is used again. After an error it is empty.
    ///
    /// # Errors
    /// As `coefficients`.
    pub fn coefficients_into(
        &self,
        features: &[&[f64]],
        offsets: &Offsets<'_>,
        weights: Option<&[f64]>,
        coefficients: &mut Vec<f64>,
    ) -> Result<()> {
        coefficients.clear();
        self.check_inputs(features, offsets, weights)?;
        let total = Offsets::start(offsets, offsets.problems());
        coefficients.reserve(total.saturating_mul(self.rows()));
        let mut scratch = Scratch::default();
        for problem in 0..offsets.problems() {
            let range = offsets.range(problem);
            let weights = weights.map(|weights| &weights[range.clone()]);
            for values in features {
                scratch.take_up(&values[range.clone()], weights, self.standardised);
                (1..=self.moments).for_each(|power| scratch.push_power(power, coefficients));
            }
        }
        if coefficients.iter().all(|coefficient| coefficient.is_finite()) {
            return Ok(());
        }
        coefficients.clear();
        let what =
            format!("powers up to {} are too large for f64; use standardised features or fewer moments", self.moments);
        Err(Error::value("sensitive features", what))
    }

    fn check_inputs(&self, features: &[&[f64]], offsets: &Offsets<'_>, weights: Option<&[f64]>) -> Result<()> {
        self.check_moments()?;
        if features.len() != self.features.len() {
            let (expected, got) = (self.features.len(), features.len());
            return Err(Error::Shape { what: "sensitive features (one array a feature)", expected, got });
        }
        let total = Offsets::start(offsets, offsets.problems());
        offsets.check(total)?;
        for (name, values) in self.features.iter().zip(features) {
            if values.len() != total {
                return Err(Error::Shape { what: "a sensitive feature", expected: total, got: values.len() });
            }
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                let what = format!("{name}: {} (index {index}) is not a finite number", values[index]);
                return Err(Error::value("sensitive features", what));
            }
        }
        let Some(weights) = weights else { return Ok(()) };
        if weights.len() != total {
            return Err(Error::Shape { what: "weights", expected: total, got: weights.len() });
        }
        match weights.iter().position(|weight| !(*weight > 0.0 && weight.is_finite())) {
            None => Ok(()),
            Some(index) => {
                let what = format!("{} (index {index}) is not positive and finite", weights[index]);
                Err(Error::value("weights", what))
            }
        }
    }

    fn check_moments(&self) -> Result<()> {
        if (1..=Self::MAX_MOMENTS).contains(&self.moments) {
            return Ok(());
        }
        let what = format!("{} is not between 1 and {}", self.moments, Self::MAX_MOMENTS);
        Err(Error::value("moments", what))
    }
}

impl Criterion for Covariance {
    fn strata(&self, _: &Population) -> Result<Strata> {
        Ok(Strata::None)
    }

    fn needs_groups(&self) -> bool {
        false
    }

    fn add_rows(&self, _: &Population, set: &mut ConstraintSet) -> Result<()> {
        check_epsilon(self.epsilon)?;
        self.check_moments()?;
        if self.features.is_empty() {
            return Err(Error::value("sensitive features", "at least one is needed"));
        }
        for name in &self.features {
            for power in 1..=self.moments {
                let name = if power == 1 { name.clone() } else { format!("{name}^{power}") };
                // Not -epsilon: a lower bound of -0 would look odd in reports.
                set.push_dense(DenseRow::new(name, 0.0 - self.epsilon, self.epsilon))?;
            }
        }
        Ok(())
    }
}

/// One feature of one problem.
#[derive(Default)]
struct Scratch {
    /// Weights that sum to 1.
    share: Vec<f64>,
    /// What the powers are taken around. Powers of `s` itself would cancel: at j = 3 a year of birth would leave seven
    /// digits of its row. Of `s = centre + deviation`, binomially: `s^j - mean s^j =
    /// sum_k (j over k) centre^(j-k) (deviation^k - mean deviation^k)`, the same number without that loss.
    centre: f64,
    deviation: Vec<f64>,
    row: Vec<f64>,
}

impl Scratch {
    fn take_up(&mut self, values: &[f64], weights: Option<&[f64]>, standardised: bool) {
        let n = values.len();
        self.share.clear();
        match weights {
            // Powers of two around the largest weight, so that no sum of weights overflows.
            Some(weights) => {
                let largest = weights.iter().copied().fold(0.0, f64::max);
                self.share.extend(weights.iter().map(|weight| weight / largest));
                let total = self.share.iter().fold(Sum::default(), add).value();
                self.share.iter_mut().for_each(|share| *share /= total);
            }
            None => self.share.resize(n, 1.0 / n as f64),
        }
        self.centre = self.mean(values.iter().copied());
        self.deviation.clear();
        self.deviation.extend(values.iter().map(|value| value - self.centre));
        if standardised {
            self.standardise();
        }
    }

    fn standardise(&mut self) {
        // What rounding of the centre left is taken out first, and overflow of squares avoided.
        let rest = self.mean(self.deviation.iter().copied());
        self.deviation.iter_mut().for_each(|deviation| *deviation -= rest);
        let largest = self.deviation.iter().fold(0.0_f64, |largest, deviation| largest.max(deviation.abs()));
        // Of a constant, at most rounding is left.
        if largest <= 4.0 * f64::EPSILON * self.centre.abs() {
            self.deviation.fill(0.0);
        } else {
            self.deviation.iter_mut().for_each(|deviation| *deviation /= largest);
            let size = self.mean(self.deviation.iter().map(|deviation| deviation * deviation)).sqrt();
            self.deviation.iter_mut().for_each(|deviation| *deviation /= size);
        }
        self.centre = 0.0;
    }

    fn mean(&self, values: impl Iterator<Item = f64>) -> f64 {
        let mut sum = Sum::default();
        self.share.iter().zip(values).for_each(|(share, value)| sum.add(share * value));
        sum.value()
    }

    /// Appends the row of `s^power`.
    fn push_power(&mut self, power: usize, coefficients: &mut Vec<f64>) {
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        row.resize(self.deviation.len(), 0.0);
        let (mut binomial, mut rounding) = (1.0, 0.0);
        for k in 1..=power {
            binomial *= (power - k + 1) as f64 / k as f64;
            let factor = if k == power { 1.0 } else { binomial * self.centre.powi((power - k) as i32) };
            if factor == 0.0 {
                continue;
            }
            let term = |deviation: &f64| factor * deviation.powi(k as i32);
            let mean = self.mean(self.deviation.iter().map(term));
            let mut largest = 0.0_f64;
            for (sum, deviation) in row.iter_mut().zip(&self.deviation) {
                let term = term(deviation);
                *sum += term - mean;
                largest = largest.max(term.abs());
            }
            rounding += 16.0 * f64::EPSILON * largest;
        }
        // What is left of a power that is constant is rounding. Scaled up, as rows are, it would be held to epsilon.
        let constant = row.iter().all(|value| value.abs() <= rounding);
        let value = |(share, value): (&f64, &f64)| if constant { 0.0 } else { share * value };
        coefficients.extend(self.share.iter().zip(&row).map(value));
        self.row = row;
    }
}

fn add(mut sum: Sum, value: &f64) -> Sum {
    sum.add(*value);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: fn(usize) -> Offsets<'static> = |n| Offsets::Equal { problems: 1, n };

    fn covariance(moments: usize) -> Covariance {
        Covariance::within(0.1).moments(moments)
    }

    /// The definition, word for word.
    fn defined(values: &[f64], weights: &[f64], power: i32) -> Vec<f64> {
        let total: f64 = weights.iter().sum();
        let mean = values.iter().zip(weights).map(|(s, w)| w * s.powi(power)).sum::<f64>() / total;
        values.iter().zip(weights).map(|(s, w)| w * (s.powi(power) - mean) / total).collect()
    }

    fn near(left: &[f64], right: &[f64], tolerance: f64) {
        let size = right.iter().fold(0.0_f64, |size, value| size.max(value.abs()));
        assert_eq!(left.len(), right.len());
        assert!(left.iter().zip(right).all(|(l, r)| (l - r).abs() <= tolerance * size), "{left:?} for {right:?}");
    }

    #[test]
    fn rows_are_as_defined_problem_by_problem() {
        let (s, t) = ([1.0, 2.5, -3.0, 0.5, 7.0], [0.1, 0.2, 0.4, 0.8, 0.6]);
        let weights = [1.0, 2.0, 0.5, 4.0, 1.5];
        let criterion = covariance(3).features(["s", "t"]);
        let found = criterion.coefficients(&[&s, &t], &Offsets::Ragged(&[0, 3, 3, 5]), Some(&weights)).unwrap();
        let mut expected = Vec::new();
        for range in [0..3, 3..5] {
            for values in [&s, &t] {
                (1..=3).for_each(|j| expected.extend(defined(&values[range.clone()], &weights[range.clone()], j)));
            }
        }
        near(&found, &expected, 1e-14);
        let set = criterion.constraints(&Population::default()).unwrap();
        assert_eq!(set.row_names().collect::<Vec<_>>(), ["s", "s^2", "s^3", "t", "t^2", "t^3"]);
        assert_eq!((criterion.rows(), set.dense()[5].lower, set.dense()[5].upper), (6, -0.1, 0.1));
    }

    #[test]
    fn nothing_is_lost_to_a_far_origin() {
        // Years, cubed, against integers that are exact: 3 samples, the mean taken out by hand.
        let found = covariance(3).coefficients(&[&[2001.0, 2002.0, 2003.0]], &ONE(3), None).unwrap();
        let cubes = [2001_i64.pow(3), 2002_i64.pow(3), 2003_i64.pow(3)];
        let sum: i64 = cubes.iter().sum();
        let exact: Vec<f64> = cubes.iter().map(|cube| (3 * cube - sum) as f64 / 9.0).collect();
        near(&found[6..], &exact, 4e-16);
    }

    #[test]
    fn constants_have_coefficients_that_are_zero() {
        for values in [[0.1; 7], [1e9 + 0.3; 7], [-3e-300; 7], [0.0; 7]] {
            for criterion in [covariance(4), covariance(4).standardised()] {
                let weights: Vec<f64> = (0..7).map(|i| 0.1 + f64::from(i)).collect();
                for weights in [None, Some(&weights[..])] {
                    let found = criterion.coefficients(&[&values], &ONE(7), weights).unwrap();
                    assert!(found.iter().all(|value| *value == 0.0), "{values:?} {found:?}");
                }
            }
        }
        let signs = [-1.0, 1.0, 1.0, 1.0, -1.0];
        for criterion in [covariance(4), covariance(4).standardised()] {
            let found = criterion.coefficients(&[&signs], &ONE(5), None).unwrap();
            assert!(found[..5].iter().all(|value| *value != 0.0));
            assert_eq!(criterion.standardised, found[5..10].iter().any(|value| *value != 0.0));
        }
    }

    #[test]
    fn standardised_features_have_no_units() {
        let age = [20.0, 35.0, 50.0, 23.0, 71.0];
        let days = age.map(|age| 365.25 * age + 1e6);
        let of = |values: &[f64]| covariance(3).standardised().coefficients(&[values], &ONE(5), None).unwrap();
        near(&of(&days), &of(&age), 1e-12);
        // The covariance of a standardised feature with itself is 1.
        let mean = age.iter().sum::<f64>() / 5.0;
        let size = (age.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / 5.0).sqrt();
        let own: f64 = of(&age)[..5].iter().zip(age).map(|(a, s)| a * (s - mean) / size).sum();
        assert!((own - 1.0).abs() < 1e-14, "{own}");
        let huge = [-1e300, 0.0, 1e300];
        assert!(covariance(2).standardised().coefficients(&[&huge], &ONE(3), None).is_ok());
    }

    #[test]
    fn misuse_is_an_error_that_names_it() {
        let told = |result: Result<Vec<f64>>, text: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        };
        let (good, two) = (covariance(1), [1.0, 2.0]);
        told(good.coefficients(&[], &ONE(2), None), "sensitive features (one array a feature)");
        told(good.coefficients(&[&two], &ONE(3), None), "2 elements where 3");
        told(good.coefficients(&[&two], &ONE(2), Some(&[1.0])), "weights has 1 elements");
        told(good.coefficients(&[&two], &ONE(2), Some(&[1.0, 0.0])), "index 1");
        told(good.coefficients(&[&[1.0, f64::NAN]], &ONE(2), None), "s: NaN (index 1) is not a finite number");
        told(good.coefficients(&[&two], &Offsets::Ragged(&[1, 2]), None), "offsets");
        told(good.coefficients(&[&two], &Offsets::Ragged(&[0, 3, 2]), None), "offsets");
        told(covariance(0).coefficients(&[&two], &ONE(2), None), "moments: 0");
        told(covariance(33).coefficients(&[&two], &ONE(2), None), "moments: 33");
        told(covariance(2).coefficients(&[&[1e200, 2e200]], &ONE(2), None), "standardised");
        let people = Population::default();
        assert!(Covariance::within(-1.0).constraints(&people).is_err());
        assert!(covariance(usize::MAX).constraints(&people).is_err());
        assert!(good.clone().features([""; 0]).constraints(&people).is_err());
        let empty = Offsets::Ragged(&[0, 0]);
        assert!(good.coefficients(&[&[]], &empty, None).unwrap().is_empty());
    }
}
