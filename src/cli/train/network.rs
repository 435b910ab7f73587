//! The networks, and what they learn by.

use tch::{Kind, Tensor, nn};

use crate::cli::failure::{Failure, Result};

/// How near to 0 and 1 a probability is taken to be at the most. A projection may end at the very bounds, where the
/// cross-entropy of a wrong guess is infinite; so it is 16 there.
const NEAREST: f64 = 1e-7;

/// A network with these widths from its inputs to one probability. The seed draws the first weights.
pub fn perceptron(variables: &nn::VarStore, inputs: usize, hidden: &[usize], seed: u64) -> nn::Sequential {
    tch::manual_seed(seed as i64);
    let mut network = nn::seq();
    let mut width = inputs as i64;
    for (number, &wide) in (1..).zip(hidden) {
        let path = variables.root() / format!("hidden{number}");
        network = network.add(nn::linear(path, width, wide as i64, nn::LinearConfig::default())).add_fn(Tensor::relu);
        width = wide as i64;
    }
    let output = nn::linear(variables.root() / "output", width, 1, nn::LinearConfig::default());
    network.add(output).add_fn(Tensor::sigmoid)
}

/// The mean cross-entropy of probabilities and labels of 0 and 1.
pub fn cross_entropy(probabilities: &Tensor, labels: &Tensor) -> Tensor {
    let inside = probabilities.clamp(NEAREST, 1.0 - NEAREST);
    inside.binary_cross_entropy::<Tensor>(labels, None, tch::Reduction::Mean)
}

/// The probabilities of a tensor, in order.
pub fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat = tensor.f_to_kind(Kind::Double).and_then(|wide| wide.f_to_device(tch::Device::Cpu)?.f_flatten(0, -1));
    let numbers = flat.and_then(Vec::try_from);
    numbers.map_err(|error| Failure::new(format!("torch: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_draws_the_weights() {
        let drawn = |seed| {
            let variables = nn::VarStore::new(tch::Device::Cpu);
            let network = perceptron(&variables, 5, &[4, 3], seed);
            let weights: i64 = variables.trainable_variables().iter().map(|own| own.numel() as i64).sum();
            assert_eq!(weights, 5 * 4 + 4 + 4 * 3 + 3 + 3 + 1);
            let inputs = Tensor::linspace(-1.0, 1.0, 20, (Kind::Float, tch::Device::Cpu)).view([4, 5]);
            numbers(&tch::no_grad(|| inputs.apply(&network))).unwrap()
        };
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
        assert!(drawn(3).iter().all(|p| *p > 0.0 && *p < 1.0));
    }

    #[test]
    fn the_loss_is_the_mean_of_the_logarithms_and_finite() {
        let loss = |p: &[f32], labels: &[f32]| {
            cross_entropy(&Tensor::from_slice(p), &Tensor::from_slice(labels)).double_value(&[])
        };
        let expected = -(0.8_f64.ln() + 0.7_f64.ln() + 0.5_f64.ln()) / 3.0;
        assert!((loss(&[0.8, 0.3, 0.5], &[1.0, 0.0, 1.0]) - expected).abs() < 1e-6);
        assert!((loss(&[0.0, 1.0], &[1.0, 0.0]) - 1e7_f64.ln()).abs() < 0.1);
        assert!(loss(&[0.0, 1.0], &[0.0, 1.0]) < 1e-6);
    }
}
