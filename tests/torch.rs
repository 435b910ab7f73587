//! The layer for torch: its values are the projector's, its gradients those that torch's own differences find, and what is
//! misused says so.
#![cfg(feature = "tch")]

use fairlayer::torch::{FairnessLayer, Inputs};
use fairlayer::*;
use tch::{Kind, Tensor};

#[cfg(feature = "cuda")]
mod common;

const CPU: tch::Device = tch::Device::Cpu;

fn host(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).contiguous().flatten(0, -1)).expect("numbers")
}

/// Scores of `n` samples in `groups` groups, one of which scores higher; and a random gradient to what is made of them.
fn draw(seed: i64, n: i64, groups: i64, kind: Kind) -> (Tensor, Tensor) {
    tch::manual_seed(seed);
    let ids = Tensor::randint(groups, [n], (Kind::Int64, CPU));
    let scores = Tensor::rand([n], (Kind::Double, CPU)) * 1.2 - 0.1 + ids.eq(0).to_kind(Kind::Double) * 0.25;
    (scores.to_kind(kind), ids)
}

fn parity(groups: usize) -> FairnessLayer {
    FairnessLayer::new(&DemographicParity::within(0.02), &Population::one_feature(groups))
        .expect("a layer")
        .bounds(0.0, 1.0)
}

/// The same through the projector.
fn projected(scores: &[f64], ids: &[u8], groups: usize) -> Vec<f64> {
    let set = DemographicParity::within(0.02).constraints(&Population::one_feature(groups)).expect("constraints");
    let capacities = Capacities::single(scores.len());
    let mut projector = Projector::<f64>::plan(Device::cpu(), &set, capacities, Settings::default()).expect("a plan");
    let batch = Batch::single(scores).cells(ids).bounds(0.0, 1.0);
    projector.project(&batch).expect("the batch fits").read().expect("answers").y.to_vec()
}

#[test]
fn its_values_are_the_projectors() {
    let (scores, ids) = draw(1, 200, 3, Kind::Double);
    let bytes: Vec<u8> = host(&ids).iter().map(|id| *id as u8).collect();
    let expected = projected(&host(&scores), &bytes, 3);
    let layer = parity(3);
    assert_eq!(host(&layer.forward(&scores, &ids, None).expect("an answer")), expected);
    // Whatever the shape, and however the ids are stored.
    let column =
        layer.forward(&scores.view([200, 1]), &ids.view([200, 1]).to_kind(Kind::Float), None).expect("an answer");
    assert_eq!((column.size(), host(&column)), (vec![200, 1], expected.clone()));
    // Columns are problems of their own; a tensor need not be contiguous.
    let other = &scores * 0.5 + 0.1;
    let both = Tensor::stack(&[&scores, &other], 0).transpose(0, 1);
    let fair = layer.forward(&both, &ids, None).expect("an answer");
    assert_eq!(fair.size(), [200, 2]);
    assert_eq!(host(&fair.select(1, 0)), expected);
    assert_eq!(host(&fair.select(1, 1)), projected(&host(&other), &bytes, 3));
}

#[test]
fn every_number_type_keeps_its_type() {
    for (kind, room) in [(Kind::Half, 2e-3), (Kind::BFloat16, 1e-2), (Kind::Float, 1e-6), (Kind::Double, 1e-12)] {
        let (scores, ids) = draw(2, 300, 2, kind);
        let scores = scores.set_requires_grad(true);
        let fair = parity(2).forward(&scores, &ids, None).expect("an answer");
        assert_eq!(fair.kind(), kind);
        let y = host(&fair);
        let mean = |group: f64| {
            let of: Vec<f64> = y.iter().zip(host(&ids)).filter(|(_, id)| *id == group).map(|(y, _)| *y).collect();
            of.iter().sum::<f64>() / of.len() as f64
        };
        assert!((mean(0.0) - mean(1.0)).abs() <= 0.02 + room, "{kind:?}");
        assert!(y.iter().all(|y| (0.0..=1.0).contains(y)));
        fair.to_kind(Kind::Double).square().sum(Kind::Double).backward();
        let slope = scores.grad();
        assert_eq!((slope.kind(), slope.size()), (kind, vec![300]));
        assert!(host(&slope).iter().any(|slope| *slope != 0.0));
    }
}

/// A scalar of the fair predictions with a random slope, so that every part of the Jacobian is seen.
fn scalar(fair: &Tensor, weights: &Tensor) -> Tensor {
    (fair * weights).sum(Kind::Double).tanh() + (fair * fair * weights).sum(Kind::Double)
}

/// Central differences, which tell every entry of the gradient of `of` at `z`.
fn differences(z: &Tensor, of: &dyn Fn(&Tensor) -> f64) -> Vec<f64> {
    let values = host(z);
    let step = 1e-6;
    let moved = |index: usize, by: f64| {
        let mut values = values.clone();
        values[index] += by;
        of(&Tensor::from_slice(&values).view(&z.size()[..]))
    };
    (0..values.len()).map(|index| (moved(index, step) - moved(index, -step)) / (2.0 * step)).collect()
}

#[test]
fn its_gradients_are_those_of_differences() {
    let people = Population::of_features([SensitiveFeature::new("a", 2), SensitiveFeature::new("b", 3)]);
    let layers: Vec<(&str, FairnessLayer)> = vec![
        ("parity", FairnessLayer::new(&DemographicParity::within(0.02), &people).expect("a layer").bounds(0.0, 1.0)),
        ("odds", FairnessLayer::new(&EqualizedOdds::within(0.05), &people).expect("a layer").bounds(0.0, 1.0)),
        ("residual", FairnessLayer::new(&MeanResidual::within(0.05), &people).expect("a layer")),
    ];
    for (name, layer) in layers {
        for columns in [1, 3] {
            tch::manual_seed(7);
            let n = 60;
            let options = (Kind::Int64, CPU);
            let groups = Tensor::stack(&[Tensor::randint(2, [n], options), Tensor::randint(3, [n], options)], 1);
            let labels = Tensor::randint(2, [n], options).to_kind(Kind::Double);
            let z =
                Tensor::rand([n, columns], (Kind::Double, CPU)) * 1.4 - 0.2 + groups.select(1, 0).unsqueeze(1) * 0.3;
            let weights = Tensor::randn([n, columns], (Kind::Double, CPU));
            let inner = z.copy().set_requires_grad(true);
            let fair = layer.forward(&(&inner * 1.0), &groups, Some(&labels)).expect("an answer");
            scalar(&fair, &weights).backward();
            let found = host(&inner.grad());
            let value = |z: &Tensor| {
                let fair = layer.forward(z, &groups, Some(&labels)).expect("an answer");
                scalar(&fair, &weights).double_value(&[])
            };
            let expected = differences(&z, &value);
            let largest = expected.iter().fold(0.0_f64, |largest, slope| largest.max(slope.abs()));
            assert!(largest > 0.1, "{name}: nothing to compare");
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!(
                    (found - expected).abs() <= 1e-6 * largest,
                    "{name} of {columns}, {index}: {found}, {expected}"
                );
            }
        }
    }
}

#[test]
fn two_forwards_come_before_one_backward() {
    let layer = parity(2);
    let (scores, ids) = draw(3, 40, 2, Kind::Double);
    let weights = Tensor::randn([40], (Kind::Double, CPU));
    let slope = |both: bool, sign: f64| {
        let z = scores.copy().set_requires_grad(true);
        let first = layer.forward(&(&z * sign), &ids, None).expect("an answer");
        let mut loss = scalar(&first, &weights);
        if both {
            // A larger batch, for which the layer plans anew.
            let (other, other_ids) = draw(4, 400, 2, Kind::Double);
            let _unused = layer.forward(&other.set_requires_grad(true), &other_ids, None).expect("an answer");
            loss += scalar(&layer.forward(&(&z * -sign), &ids, None).expect("an answer"), &weights);
        }
        loss.backward();
        host(&z.grad())
    };
    let (one, other, sum) = (slope(false, 1.0), slope(false, -1.0), slope(true, 1.0));
    for i in 0..40 {
        assert!((one[i] + other[i] - sum[i]).abs() < 1e-12);
    }
}

#[test]
fn a_second_derivative_is_an_error() {
    let (scores, ids) = draw(5, 30, 2, Kind::Double);
    let z = scores.set_requires_grad(true);
    let fair = parity(2).forward(&z, &ids, None).expect("an answer");
    let loss = fair.square().sum(Kind::Double);
    let first = Tensor::f_run_backward(&[&loss], &[&z], true, true).expect("a gradient").remove(0);
    let second = first.square().sum(Kind::Double).f_backward().expect_err("no second derivative").to_string();
    assert!(second.contains("cannot be differentiated again"), "{second}");
}

#[test]
fn misuse_says_what_is_wrong() {
    let (scores, ids) = draw(6, 20, 2, Kind::Float);
    let layer = parity(2);
    let of = |scores: &Tensor, ids: &Tensor| layer.forward(scores, ids, None).expect_err("misuse").to_string();
    assert!(of(&scores.view([4, 5, 1]), &ids).contains("[4, 5, 1]"));
    assert!(of(&scores.to_kind(Kind::Int64), &ids).contains("Int64"));
    assert!(of(&scores, &ids.narrow(0, 0, 19)).contains("[20, 1] is needed"));
    assert!(of(&scores, &(&ids + 1)).contains("has ids below 2"));
    assert!(of(&scores, &(&ids - 1)).contains("has -1 for group"));
    assert!(of(&scores, &(&ids.to_kind(Kind::Float) * 0.5)).contains("whole numbers"));
    let spoilt = scores.copy();
    let _ = spoilt.narrow(0, 3, 1).fill_(f64::NAN);
    assert!(of(&spoilt, &ids).contains("NaN"));
    // Of several columns, the message says which; `project` tells it as a status.
    let both = Tensor::stack(&[&scores, &spoilt], 1);
    assert!(of(&both, &ids).contains("column 1"));
    let told = layer.project(&both, Inputs { groups: Some(&ids), ..Inputs::default() }).expect("statuses");
    assert_eq!(
        [Status::Solved, Status::BadNumber],
        [0, 1].map(|column| told.report().unwrap().outcomes[column].status)
    );
    let odds = FairnessLayer::new(&EqualizedOdds::within(0.1), &Population::one_feature(2)).expect("a layer");
    let missing = odds.forward(&scores, &ids, None).expect_err("no labels").to_string();
    assert!(missing.contains("labels"), "{missing}");
    let crossed = parity(2).bounds(1.0, 0.0).forward(&scores, &ids, None).expect_err("crossed bounds").to_string();
    assert!(crossed.contains("bound"), "{crossed}");
}

#[test]
fn a_batch_without_a_group_says_so() {
    let layer = parity(3);
    let (scores, ids) = draw(8, 50, 2, Kind::Double);
    let told = layer.project(&scores, Inputs { groups: Some(&ids), ..Inputs::default() }).expect("an answer");
    let inactive = told.report().unwrap().inactive;
    assert!(inactive.len() == 1 && inactive[0].contains("=2"), "{inactive:?}");
    // One group only: nothing to compare.
    let alone =
        layer.project(&scores, Inputs { groups: Some(&ids.zeros_like()), ..Inputs::default() }).expect("an answer");
    assert_eq!(host(&alone.y), host(&scores.clamp(0.0, 1.0)));
    assert_eq!(alone.report().unwrap().inactive.len(), 3);
}

/// The layer by differentiable operations of torch alone: y + J (z - z), with J written out.
#[test]
fn its_gradient_is_that_of_torch_operations() {
    let (scores, ids) = draw(9, 80, 2, Kind::Double);
    let weights = Tensor::randn([80], (Kind::Double, CPU));
    let layer = parity(2);
    let z = scores.copy().set_requires_grad(true);
    scalar(&layer.forward(&z, &ids, None).expect("an answer"), &weights).backward();
    let found = host(&z.grad());
    let z = scores.copy().set_requires_grad(true);
    let y = layer.forward(&scores, &ids, None).expect("an answer");
    let free = y.gt(0.0).logical_and(&y.lt(1.0)).to_kind(Kind::Double);
    let of = |group: i64| ids.eq(group).to_kind(Kind::Double);
    let row = of(0) / of(0).sum(Kind::Double) - of(1) / of(1).sum(Kind::Double);
    let held = &free * &row;
    let moved = &z - z.detach();
    let along = (&held * &moved).sum(Kind::Double) / (&held * &row).sum(Kind::Double);
    let surrogate = &y + &free * &moved - &held * along;
    scalar(&surrogate, &weights).backward();
    for (found, expected) in found.iter().zip(host(&z.grad())) {
        assert!((found - expected).abs() < 1e-10, "{found}, {expected}");
    }
}

/// What is between torch and a GPU, by an emulated one, which takes host memory for its own: tensors are read where they lie, and
/// answers are tensors where they were put.
#[cfg(feature = "cuda")]
mod gpu {
    use std::sync::atomic::Ordering;

    use super::*;

    fn with_a_gpu(body: fn(&Device)) {
        common::devices::run_on("cuda_emu", body);
    }

    /// A layer for two features of 2 and 3 groups, and what it reads of `n` samples.
    fn cases(n: i64, columns: i64) -> Vec<(&'static str, FairnessLayer, Option<Tensor>, Option<Tensor>)> {
        let people = || Population::of_features([SensitiveFeature::new("a", 2), SensitiveFeature::new("b", 3)]);
        let options = (Kind::Int64, CPU);
        let labels = || Tensor::randint(2, [n, columns], options).to_kind(Kind::Float);
        let layer = |criterion: &dyn Criterion, people: &Population| {
            FairnessLayer::new(criterion, people).expect("a layer").bounds(0.0, 1.0)
        };
        vec![
            ("parity", layer(&DemographicParity::within(0.02), &people()), None, None),
            ("odds", layer(&EqualizedOdds::within(0.05), &people()), Some(labels()), None),
            ("shared labels", layer(&EqualizedOdds::within(0.05), &people()), Some(labels().select(1, 0)), None),
            ("residual", layer(&MeanResidual::within(0.05), &people()), Some(labels()), None),
            (
                "control",
                layer(&ConditionalParity::within(0.05), &people().with_control(2)),
                None,
                Some(Tensor::randint(2, [n], options)),
            ),
        ]
    }

    #[test]
    fn its_values_and_gradients_are_those_of_the_cpu() {
        with_a_gpu(|device| {
            tch::manual_seed(3);
            let n = 60;
            let options = (Kind::Int64, CPU);
            let groups = Tensor::stack(&[Tensor::randint(2, [n], options), Tensor::randint(3, [n], options)], 1);
            for (kind, columns) in [(Kind::Double, 1), (Kind::Float, 3), (Kind::BFloat16, 1)] {
                let room = match kind {
                    Kind::Double => 1e-9,
                    Kind::Float => 2e-5,
                    _ => 2e-2,
                };
                for (name, layer, labels, control) in cases(n, columns) {
                    let z = Tensor::rand([n, columns], (Kind::Double, CPU)) * 1.4 - 0.2
                        + groups.select(1, 0).unsqueeze(1) * 0.3;
                    let weights = Tensor::randn([n, columns], (kind, CPU));
                    let ids = groups.to_kind(if columns == 1 { Kind::Float } else { Kind::Int64 });
                    let inputs = Inputs {
                        groups: Some(&ids),
                        labels: labels.as_ref(),
                        control: control.as_ref(),
                        weights: None,
                    };
                    let both = [layer.clone(), layer.emulated(device.clone())].map(|layer| {
                        // (Tensors of their own, so that their gradients are.)
                        let z = z.copy().to_kind(kind).detach().set_requires_grad(true);
                        let projected = layer.project(&z, inputs).expect("a projection");
                        (&projected.y * &weights).sum(Kind::Double).backward();
                        assert!(projected.report().expect("a report").is_answered(), "{name}");
                        assert_eq!((projected.y.kind(), projected.y.size()), (kind, vec![n, columns]));
                        (host(&projected.y), host(&z.grad()), projected.report().expect("a report").multipliers)
                    });
                    let near = |what: &str, [here, there]: [&[f64]; 2], room: f64| {
                        assert_eq!(here.len(), there.len());
                        let far = here.iter().zip(there).map(|(here, there)| (here - there).abs()).fold(0.0, f64::max);
                        assert!(far <= room, "{name}, {kind:?}, {what}: {far}");
                    };
                    near("y", [&both[0].0, &both[1].0], room);
                    near("gradient", [&both[0].1, &both[1].1], 10.0 * room);
                    if kind == Kind::Double {
                        near("multipliers", [&both[0].2, &both[1].2], 1e-6);
                        assert!(both[0].2.iter().any(|nu| *nu != 0.0), "{name}: nothing to compare");
                    }
                }
            }
        });
    }

    #[test]
    fn a_call_only_launches_and_answers_stay_what_they_are() {
        with_a_gpu(|_| {
            // (One of its own, which no other test asks for anything.)
            let device = Device::emulated_cuda(&common::emulation::library().expect("a library")).expect("a device");
            let Device::Cuda(opened) = &device else { panic!("an emulated device") };
            let asked = opened.asked().expect("an emulated device");
            let counts =
                || [&asked.allocations, &asked.copies, &asked.launches].map(|count| count.load(Ordering::Relaxed));
            let layer = parity(2).emulated(device.clone());
            let call = |seed: i64| {
                let (z, ids) = draw(seed, 100, 2, Kind::Float);
                let z = z.set_requires_grad(true);
                let y = layer.project(&z, Inputs { groups: Some(&ids), ..Inputs::default() }).expect("a projection").y;
                (z, y)
            };
            let pull = |(z, y): &(Tensor, Tensor)| {
                y.square().sum(Kind::Float).backward();
                host(&z.grad())
            };
            // Two are kept at a time, so that there is memory for two.
            let kept = [call(1), call(2)];
            let (answers, slopes) = (kept.each_ref().map(|(_, y)| host(y)), kept.each_ref().map(pull));
            assert!(answers[0] != answers[1] && slopes[0] != slopes[1]);
            drop(kept);
            let [allocations, copies, launches] = counts();
            for calls in 1..5 {
                let both = [call(1), call(2)];
                assert!(both.each_ref().map(|(_, y)| host(y)) == answers);
                // The later one goes back first.
                assert!(pull(&both[1]) == slopes[1] && pull(&both[0]) == slopes[0]);
                assert_eq!(counts(), [allocations, copies, launches + 4 * calls]);
            }
            // An answer outlives its graph and its layer's other calls.
            let (_, y) = call(1);
            let y = y.detach();
            for seed in 3..8 {
                let _ = call(seed);
            }
            assert!(host(&y) == answers[0]);
        });
    }

    #[test]
    fn ids_that_are_out_of_range_are_found_without_waiting() {
        with_a_gpu(|device| {
            let layer = parity(2).emulated(device.clone());
            let (z, ids) = draw(5, 40, 2, Kind::Double);
            for id in [2.0, -1.0, 0.5, 256.0, 255.0] {
                let wrong = ids.to_kind(Kind::Double);
                let _ = wrong.get(7).fill_(id);
                let told =
                    layer.project(&z, Inputs { groups: Some(&wrong), ..Inputs::default() }).expect("a projection");
                assert_eq!(told.report().expect("a report").outcomes[0].status, Status::BadNumber, "{id}");
            }
            let few = ids.narrow(0, 0, 39);
            assert!(layer.project(&z, Inputs { groups: Some(&few), ..Inputs::default() }).is_err());
            assert!(layer.project(&z, Inputs::default()).is_err());
        });
    }
}
