//! Conditional parity: equal mean predictions at every value of a control feature.

use super::{Criterion, Parity};
use crate::cells::{ControlFeature, Population, Strata};
use crate::constraints::ConstraintSet;
use crate::error::{Error, Result};

/// Conditional (demographic) parity: the groups' mean predictions are close within every value of a control feature.
///
/// A control feature with many values is better split into problems of one batch: strata multiply the cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConditionalParity(pub Parity);

impl ConditionalParity {
    /// The means of all pairs of groups differ by at most `epsilon`.
    pub fn within(epsilon: f64) -> Self {
        Self(Parity::Pairwise { epsilon })
    }
}

impl Criterion for ConditionalParity {
    fn strata(&self, population: &Population) -> Result<Strata> {
        Ok(Strata::Control { levels: control(population)?.levels.len() })
    }

    fn add_rows(&self, population: &Population, set: &mut ConstraintSet) -> Result<()> {
        let ControlFeature { name, levels } = control(population)?;
        let mut named = levels.iter().enumerate();
        named.try_for_each(|(index, level)| self.0.add_rows(population, Some((index, &format!("{name}={level}"))), set))
    }
}

fn control(population: &Population) -> Result<&ControlFeature> {
    let missing = Error::Missing { what: "a control feature", hint: "Population::with_control" };
    population.control.as_ref().ok_or(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_by_the_values_of_the_control() {
        let names = |population: &Population| -> Vec<String> {
            let set = ConditionalParity::within(0.1).constraints(population).expect("constraints");
            set.row_names().map(String::from).collect()
        };
        let people = Population::one_feature(1);
        let region = ControlFeature { name: "region".into(), levels: vec!["north".into(), "south".into()] };
        let named = names(&people.clone().with_control_feature(region));
        assert_eq!(named, ["group=0, region=north", "group=0, region=south"]);
        assert_eq!(names(&people.with_control(2)), ["group=0, control=0", "group=0, control=1"]);
    }
}
