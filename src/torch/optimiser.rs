//! Optimisers whose state can be saved, which those of torch's C++ interface do not offer through `tch`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use super::tensors::failed;
use crate::error::Result;

/// What an optimiser does with a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Rule {
    /// Adam (Kingma and Ba, 2015), with corrected moments: `w -= lr m / (sqrt(v) + eps)`.
    Adam {
        /// How fast the mean of the gradient forgets.
        beta1: f64,
        /// How fast the mean of its square forgets.
        beta2: f64,
        /// Added to the root of that mean.
        eps: f64,
    },
    /// Stochastic gradient descent: `b = momentum b + g`, `w -= lr b`.
    Sgd {
        /// How much of the last step stays.
        momentum: f64,
    },
}

/// An optimiser: a rule, its learning rate, and what it remembers of the gradients so far.
#[derive(Debug)]
pub struct Optimiser {
    rule: Rule,
    learning_rate: f64,
    weight_decay: f64,
    steps: i64,
    /// By variable: the two moments of Adam, or the last step.
    slots: BTreeMap<String, Vec<Tensor>>,
}

/// What of an optimiser is not a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    rule: Rule,
    steps: i64,
}

impl Optimiser {
    /// Adam with the usual constants 0.9, 0.999 and 1e-8.
    pub fn adam(learning_rate: f64) -> Self {
        Self::new(Rule::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, learning_rate)
    }

    /// Stochastic gradient descent with a momentum, which may be 0.
    pub fn sgd(learning_rate: f64, momentum: f64) -> Self {
        Self::new(Rule::Sgd { momentum }, learning_rate)
    }

    /// Any rule.
    pub fn new(rule: Rule, learning_rate: f64) -> Self {
        Self { rule, learning_rate, weight_decay: 0.0, steps: 0, slots: BTreeMap::new() }
    }

    /// Adds this times the weights to their gradients.
    #[must_use]
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// The learning rate that a schedule begins with.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// Moves all variables that have a gradient, and forgets the gradients.
    pub(super) fn step(&mut self, variables: &nn::VarStore, learning_rate: f64) -> Result<()> {
        self.steps += 1;
        tch::no_grad(|| {
            for (name, mut variable) in variables.variables() {
                let gradient = variable.grad();
                if variable.requires_grad() && gradient.defined() {
                    self.step_of(name, &mut variable, gradient, learning_rate).map_err(failed)?;
                    variable.zero_grad();
                }
            }
            Ok(())
        })
    }

    fn step_of(
        &mut self,
        name: String,
        variable: &mut Tensor,
        mut gradient: Tensor,
        learning_rate: f64,
    ) -> std::result::Result<(), tch::TchError> {
        // (The squares of half numbers would not do.)
        if matches!(gradient.kind(), Kind::Half | Kind::BFloat16) {
            gradient = gradient.f_to_kind(Kind::Float)?;
        }
        if self.weight_decay != 0.0 {
            gradient = gradient.f_add(&variable.f_mul_scalar(self.weight_decay)?)?;
        }
        let count = match self.rule {
            Rule::Adam { .. } => 2,
            Rule::Sgd { momentum: 0.0 } => 0,
            Rule::Sgd { .. } => 1,
        };
        let slots = match self.slots.entry(name) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert((0..count).map(|_| gradient.f_zeros_like()).collect::<std::result::Result<_, _>>()?)
            }
        };
        let step = match (self.rule, &mut slots[..]) {
            (Rule::Adam { beta1, beta2, eps }, [mean, square]) => {
                let _ = mean.f_lerp_(&gradient, 1.0 - beta1)?;
                let _ = square.f_lerp_(&gradient.f_square()?, 1.0 - beta2)?;
                let (first, second) =
                    (1.0 - beta1.powi(self.steps as i32), (1.0 - beta2.powi(self.steps as i32)).sqrt());
                gradient.f_copy_(square)?;
                let root = gradient.f_sqrt_()?.f_div_scalar_(second)?.f_add_scalar_(eps)?;
                mean.f_div(&root)?.f_mul_scalar_(learning_rate / first)?
            }
            (_, [last]) => {
                let Rule::Sgd { momentum } = self.rule else { return Ok(()) };
                last.f_mul_scalar_(momentum)?.f_add_(&gradient)?.f_mul_scalar(learning_rate)?
            }
            _ => gradient.f_mul_scalar(learning_rate)?,
        };
        let _ = variable.f_sub_(&step)?;
        Ok(())
    }

    pub(super) fn memory(&self) -> Memory {
        Memory { rule: self.rule, steps: self.steps }
    }

    /// What it remembers, by names that [`restore`](Self::restore) takes apart.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let of = |(name, slots): (_, &'_ Vec<Tensor>)| (0..slots.len()).map(move |slot| format!("{slot}.{name}"));
        self.slots.iter().flat_map(move |slots| of(slots).zip(slots.1))
    }

    /// Goes on from what another remembered.
    pub(super) fn restore(
        &mut self,
        memory: Memory,
        tensors: Vec<(String, Tensor)>,
    ) -> std::result::Result<(), String> {
        if memory.rule != self.rule {
            return Err(format!("it was made with {:?}, and this trainer has {:?}", memory.rule, self.rule));
        }
        let mut slots = BTreeMap::<String, Vec<Tensor>>::new();
        // (In the order of their names, the first moments of all come before the second.)
        for (name, tensor) in tensors {
            let own = name.split_once('.').map_or(name.as_str(), |(_, name)| name).to_owned();
            slots.entry(own).or_default().push(tensor);
        }
        (self.steps, self.slots) = (memory.steps, slots);
        Ok(())
    }
}
