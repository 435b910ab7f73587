//! Random problems of every kind that users can state, from ordinary to hostile.

use super::kkt::Stated;
use super::rows::{dot, unit_of};
use fairlayer::*;
use rand::RngExt;
use rand_pcg::Pcg64Mcg;

/// What a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    TwoGroups,
    ManyGroups,
    ThreeFeatures,
    Intersectional,
    EqualizedOdds,
    ManyMarginals,
    Conditional,
    Overall,
    OverallOdds,
    Ratio,
    RatioFeatures,
    MeanResidual,
    Nested,
    Duplicates,
    TinyGroups,
    SpreadsAndContrasts,
    RandomContrasts,
    /// Dense rows of every form, met by a point that is not near the bounds.
    Dense,
    /// Rows that differ from each other by down to a millionth.
    DenseConditioned,
    /// Duplicates, combinations of others, zeros.
    DenseDependent,
    /// With a spread and contrasts.
    DenseBesideMeans,
    /// Met in a corner of the bounds only.
    DenseCorner,
    /// A combination of rows, or of rows and bounds, that asks a little too much, or nearly.
    DenseContradictory,
}

impl Kind {
    pub const ALL: [Self; 23] = [
        Self::TwoGroups,
        Self::ManyGroups,
        Self::ThreeFeatures,
        Self::Intersectional,
        Self::EqualizedOdds,
        Self::ManyMarginals,
        Self::Conditional,
        Self::Overall,
        Self::OverallOdds,
        Self::Ratio,
        Self::RatioFeatures,
        Self::MeanResidual,
        Self::Nested,
        Self::Duplicates,
        Self::TinyGroups,
        Self::SpreadsAndContrasts,
        Self::RandomContrasts,
        Self::Dense,
        Self::DenseConditioned,
        Self::DenseDependent,
        Self::DenseBesideMeans,
        Self::DenseCorner,
        Self::DenseContradictory,
    ];

    /// Those with dense rows: the last of them all.
    pub const DENSE: [Self; 6] = *Self::ALL.last_chunk().unwrap();

    /// Whether the answer is known as well as its rows are kept: nearly dependent rows know it less.
    pub fn well_conditioned(self) -> bool {
        !Self::DENSE.contains(&self) || matches!(self, Self::Dense | Self::DenseBesideMeans)
    }
}

/// How the scores are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    Normal,
    Wide,
    Saturated,
    AllBeyond,
    Hard,
    Ties,
    Constant,
    Uniform,
}

impl Scores {
    pub const ALL: [Self; 8] = [
        Self::Normal,
        Self::Wide,
        Self::Saturated,
        Self::AllBeyond,
        Self::Hard,
        Self::Ties,
        Self::Constant,
        Self::Uniform,
    ];
    /// Neither saturated nor all beyond the bounds.
    pub fn ordinary(self) -> bool {
        !matches!(self, Self::Saturated | Self::AllBeyond)
    }
}

/// A problem with its constraints.
pub struct Case {
    pub set: ConstraintSet,
    pub stated: Stated,
    pub epsilon: f64,
    pub scores: Scores,
    pub scalar_bounds: bool,
    pub weighted: bool,
    /// Whether there is a solution, where that is known.
    pub feasible: Option<bool>,
}

struct Draw<'a>(&'a mut Pcg64Mcg);

impl Draw<'_> {
    fn unit(&mut self) -> f64 {
        self.0.random()
    }
    fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }
    fn between(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.unit()
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
    /// Group ids with uneven frequencies.
    fn groups(&mut self, n: usize, k: usize) -> Vec<usize> {
        let masses: Vec<f64> = (0..k).map(|_| self.exponential()).collect();
        let total: f64 = masses.iter().sum();
        (0..n)
            .map(|_| {
                let mut u = self.unit() * total;
                masses
                    .iter()
                    .position(|m| {
                        u -= m;
                        u < 0.0
                    })
                    .unwrap_or(k - 1)
            })
            .collect()
    }
}

/// Features as drawn: group ids and their number.
type Feature = (Vec<usize>, usize);

fn population(features: &[Feature]) -> Population {
    Population::of_features(features.iter().enumerate().map(|(j, (_, k))| SensitiveFeature::new(format!("f{j}"), *k)))
}

fn cells(features: &[Feature], strata: Option<&Feature>, n: usize) -> Vec<u8> {
    let fold = |i: usize| features.iter().chain(strata).fold(0, |cell, (ids, k)| cell * k + ids[i]);
    (0..n).map(|i| fold(i) as u8).collect()
}

fn flat(count: usize) -> ConstraintSet {
    ConstraintSet::new(CellLayout::flat(count).unwrap())
}

fn mask(cells: impl IntoIterator<Item = usize>) -> CellMask {
    CellMask::of(cells).unwrap()
}

fn contrast(plus: CellMask, minus: CellMask, scale: f64, lower: f64, upper: f64) -> Contrast {
    Contrast { plus: Union::new(plus, "row"), minus, scale, lower, upper, residual: false }
}

fn spread(masks: impl IntoIterator<Item = CellMask>, epsilon: f64) -> Spread {
    let unions = masks.into_iter().map(|mask| Union::new(mask, "union")).collect();
    Spread { unions, limit: SpreadLimit::Difference(epsilon) }
}

/// Draws the constraints, the cells, and attributes in [0, 1] that scores may depend on.
fn structure(
    draw: &mut Draw<'_>,
    kind: Kind,
    n: usize,
    epsilon: f64,
    labels: &[f64],
) -> (ConstraintSet, Vec<u8>, Vec<Vec<f64>>) {
    let positive: Feature = (labels.iter().map(|label| usize::from(*label > 0.5)).collect(), 2);
    let parity = Parity::Pairwise { epsilon };
    let attributes = |features: &[Feature]| -> Vec<Vec<f64>> {
        let scaled = |(ids, k): &Feature| ids.iter().map(|id| *id as f64 / (*k as f64 - 1.0).max(1.0)).collect();
        features.iter().map(scaled).collect()
    };
    let mut sizes: Vec<usize> = match kind {
        Kind::TwoGroups => vec![2],
        Kind::ManyGroups | Kind::TinyGroups => vec![3 + draw.below(12)],
        Kind::ThreeFeatures => vec![2, 5, 4],
        Kind::Intersectional => vec![2, 2 + draw.below(4)],
        Kind::EqualizedOdds | Kind::Conditional => vec![2 + draw.below(6)],
        Kind::ManyMarginals => vec![2, 2 + draw.below(5), 2 + draw.below(6)],
        Kind::Overall => vec![2 + draw.below(15)],
        Kind::OverallOdds => vec![2 + draw.below(5)],
        Kind::Ratio => vec![2 + draw.below(7)],
        Kind::RatioFeatures => vec![2, 2 + draw.below(4)],
        Kind::MeanResidual => vec![1 + draw.below(8)],
        Kind::Nested => vec![6],
        Kind::Duplicates => vec![3],
        Kind::SpreadsAndContrasts => vec![2, 5, 4],
        Kind::RandomContrasts => vec![4, 2],
        _ => vec![2 + draw.below(3)],
    };
    let mut features: Vec<Feature> = sizes.drain(..).map(|k| (draw.groups(n, k), k)).collect();
    if features.len() == 3 && draw.unit() < 0.3 {
        // A second feature that nearly follows from the first: overlapping, dependent rows.
        let first = features[0].0.clone();
        let k = features[1].1;
        features[1].0 = first.iter().map(|id| (id * 2 + draw.below(3)).min(k - 1)).collect();
    }
    if kind == Kind::TinyGroups {
        let k = features[0].1;
        features[0].0 = if draw.unit() < 0.5 {
            (0..n).map(|_| ((draw.exponential() * 0.7) as usize).min(k - 1)).collect()
        } else {
            (0..n).map(|i| if i + 1 < k { i + 1 } else { 0 }).collect()
        };
    }
    let of = |criterion: &dyn Criterion, population: &Population| criterion.constraints(population).unwrap();
    let people = population(&features);
    let ratio = Parity::Ratio { ratio: 1.0 - epsilon };
    let (set, ids) = match kind {
        Kind::TwoGroups | Kind::ManyGroups | Kind::ThreeFeatures | Kind::TinyGroups => {
            (of(&DemographicParity(parity), &people), cells(&features, None, n))
        }
        Kind::Intersectional => (of(&DemographicParity(parity), &people.intersectional()), cells(&features, None, n)),
        Kind::EqualizedOdds | Kind::ManyMarginals => {
            (of(&EqualizedOdds(parity), &people), cells(&features, Some(&positive), n))
        }
        Kind::Conditional => {
            let control: Feature = (draw.groups(n, 3), 3);
            (of(&ConditionalParity(parity), &people.with_control(3)), cells(&features, Some(&control), n))
        }
        Kind::Overall => (of(&DemographicParity(Parity::Overall { epsilon }), &people), cells(&features, None, n)),
        Kind::OverallOdds => {
            (of(&EqualizedOdds(Parity::Overall { epsilon }), &people), cells(&features, Some(&positive), n))
        }
        Kind::Ratio | Kind::RatioFeatures => (of(&DemographicParity(ratio), &people), cells(&features, None, n)),
        Kind::MeanResidual => (of(&MeanResidual { epsilon }, &people), cells(&features, None, n)),
        Kind::Nested => {
            let mut set = flat(6);
            let upto = |q: usize| mask(0..=q);
            set.push_spread(spread((0..6).map(upto), epsilon)).unwrap();
            set.push_contrast(contrast(upto(1), upto(3), 1.0, -epsilon, epsilon)).unwrap();
            set.push_contrast(contrast(upto(3), upto(5), 1.0, -epsilon, epsilon)).unwrap();
            (set, cells(&features, None, n))
        }
        Kind::Duplicates => {
            let mut set = flat(3);
            let each = || (0..3).map(|q| mask([q]));
            let other = epsilon * draw.pick(&[1.0, 1.0, 0.5]);
            set.push_spread(spread(each().chain(each()), epsilon)).unwrap();
            set.push_spread(spread(each(), other)).unwrap();
            for (a, b, epsilon) in [(0, 1, epsilon), (1, 0, epsilon), (0, 1, other)] {
                set.push_contrast(contrast(mask([a]), mask([b]), 1.0, -epsilon, epsilon)).unwrap();
            }
            (set, cells(&features, None, n))
        }
        Kind::SpreadsAndContrasts => {
            let first_two = CellLayout::new(&[2, 5, 4], Strata::None).unwrap();
            let mut set = ConstraintSet::new(first_two.clone());
            for (feature, k) in [(0, 2), (1, 5)] {
                let level = epsilon * draw.pick(&[1.0, 1.0, 2.0]);
                set.push_spread(spread((0..k).map(|g| first_two.union(feature, g, None)), level)).unwrap();
            }
            for g in 0..4 {
                let all = first_two.stratum(None);
                set.push_contrast(contrast(first_two.union(2, g, None), all, 1.0, -epsilon, epsilon)).unwrap();
            }
            (set, cells(&features, None, n))
        }
        Kind::RandomContrasts => {
            let mut set = flat(8);
            for _ in 0..1 + draw.below(9) {
                let mut side = |fallback: usize| {
                    let picked: Vec<usize> = (0..8).filter(|_| draw.unit() < 0.5).collect();
                    mask(if picked.is_empty() { vec![fallback] } else { picked })
                };
                let (plus, minus) = (side(0), side(7));
                let (lower, upper) = match draw.below(3) {
                    0 => (-epsilon, epsilon),
                    1 => (f64::NEG_INFINITY, epsilon),
                    _ => (-epsilon, f64::INFINITY),
                };
                set.push_contrast(contrast(plus, minus, 1.0, lower, upper)).unwrap();
            }
            (set, cells(&features, None, n))
        }
        Kind::DenseBesideMeans => {
            let groups = features[0].1;
            let mut set = of(&DemographicParity(parity), &people);
            for g in 1..groups {
                set.push_contrast(contrast(mask([g]), mask([0]), 1.0, -epsilon, epsilon)).unwrap();
            }
            (set, cells(&features, None, n))
        }
        _ => (flat(1), vec![0; n]),
    };
    (set, ids, attributes(&features))
}

fn scores(draw: &mut Draw<'_>, kind: Scores, n: usize, attributes: &[Vec<f64>]) -> Vec<f64> {
    let slopes: Vec<f64> = attributes.iter().map(|_| draw.between(-1.0, 1.0)).collect();
    let bias: Vec<f64> = (0..n).map(|i| attributes.iter().zip(&slopes).map(|(a, s)| a[i] * s).sum()).collect();
    let (magnitude, flip) = (10_f64.powf(draw.between(0.5, 3.0)), draw.unit() < 0.5);
    let level = draw.pick(&[0.3, 0.0, 1.0, 2.0]);
    let step = if draw.unit() < 0.5 { 0.5 } else { 0.0 };
    (0..n)
        .map(|i| match kind {
            Scores::Normal => 0.5 + 0.2 * draw.normal() + 0.3 * bias[i],
            Scores::Wide => 0.5 + draw.normal() + 0.6 * bias[i],
            Scores::Saturated => 0.5 + 4.0 * draw.normal() + 5.0 * bias[i],
            Scores::AllBeyond => {
                let high = if flip { draw.unit() < (0.5 + 0.4 * bias[i]).clamp(0.05, 0.95) } else { bias[i] > 0.2 };
                0.5 + if high { magnitude } else { -magnitude } + 0.1 * draw.normal()
            }
            Scores::Hard => f64::from(u8::from(draw.unit() < 0.5 + 0.4 * bias[i])),
            Scores::Ties => draw.pick(&[0.2, 0.5, 0.8]) + 0.15 * (2.0 * bias[i]).round(),
            Scores::Constant => level + if attributes[0][i] > 0.0 { step } else { 0.0 },
            Scores::Uniform => (draw.unit() + 0.2 * bias[i]).clamp(0.0, 1.0),
        })
        .collect()
}

/// Draws a problem. `n` fixes its size.
pub fn draw_case(rng: &mut Pcg64Mcg, kind: Kind, largest: usize) -> Case {
    let mut draw = Draw(rng);
    let n = match draw.unit() {
        u if u < 0.9 => 10_f64.powf(draw.between(0.0, (largest as f64).log10())) as usize,
        _ => 1 + draw.below(11),
    };
    let epsilon = draw.pick(&[0.0, 1e-6, 1e-4, 0.01, 0.05, 0.3, 0.5]);
    let smooth_labels = kind == Kind::MeanResidual;
    let labels: Vec<f64> =
        (0..n).map(|_| if smooth_labels { draw.unit() } else { f64::from(u8::from(draw.unit() < 0.4)) }).collect();
    let (set, cells, attributes) = structure(&mut draw, kind, n, epsilon, &labels);
    let kind_of_scores = draw.pick(&Scores::ALL);
    let z = scores(&mut draw, kind_of_scores, n, &attributes);
    let weighted = draw.unit() > 0.5;
    let wild = draw.unit() < 0.4;
    let weights = (0..n)
        .map(|_| match (weighted, wild) {
            (false, _) => 1.0,
            (true, false) => draw.exponential() + 1e-3,
            (true, true) => 10_f64.powf(draw.between(-3.0, 3.0)),
        })
        .collect();
    let ratio = matches!(kind, Kind::Ratio | Kind::RatioFeatures);
    let t = draw.unit();
    let scalar_bounds = t <= 0.92;
    let (lo, hi) = if !scalar_bounds {
        let side = |draw: &mut Draw<'_>, lo: f64| (0..n).map(|_| draw.between(lo, lo + 0.2)).collect();
        (side(&mut draw, 0.0), side(&mut draw, 0.8))
    } else {
        let (lo, hi) = match draw.below(3) {
            _ if t <= 0.75 => (0.0, 1.0),
            0 if !ratio => (f64::NEG_INFINITY, f64::INFINITY),
            1 if !ratio => (-0.5, 1.5),
            _ => (0.0, f64::INFINITY),
        };
        (vec![lo; n], vec![hi; n])
    };
    let stated = Stated { z, cells, weights, labels, lo, hi, coefficients: Vec::new() };
    let mut case = Case { set, stated, epsilon, scores: kind_of_scores, scalar_bounds, weighted, feasible: None };
    if Kind::DENSE.contains(&kind) {
        add_dense_rows(&mut draw, kind, &mut case);
    }
    case
}

/// Adds dense rows to a problem that has all the rest.
fn add_dense_rows(draw: &mut Draw<'_>, kind: Kind, case: &mut Case) {
    let m = 32_f64.powf(draw.unit()).round() as usize;
    case.stated.coefficients = dense_rows(draw, kind, m, &case.stated);
    let bounds = match kind {
        Kind::DenseContradictory => contradictory_bounds(draw, case),
        _ => bounds_around_a_point(draw, kind, case),
    };
    for (k, (lower, upper)) in bounds.into_iter().enumerate() {
        case.set.push_dense(DenseRow::new(format!("row {k}"), lower, upper)).unwrap();
    }
}

fn dense_rows(draw: &mut Draw<'_>, kind: Kind, m: usize, p: &Stated) -> Vec<Vec<f64>> {
    let n = p.z.len();
    let feature: Vec<f64> = (0..n).map(|_| draw.normal()).collect();
    let closeness = 10_f64.powf(draw.between(-6.0, 0.0));
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for k in 0..m {
        let row: Vec<f64> = match (kind, draw.below(5)) {
            (Kind::DenseConditioned, _) => (0..n).map(|i| feature[i] + closeness * draw.normal()).collect(),
            (Kind::DenseDependent, form) if k > 0 && form < 4 => {
                let (first, second) = (draw.below(k), draw.below(k));
                let (f, g) = match form {
                    0 => (1.0, 0.0),
                    1 => (draw.pick(&[-1.0, 2.0, 0.3, 1e4]), 0.0),
                    2 => (draw.normal(), draw.normal()),
                    _ => (0.0, 0.0),
                };
                (0..n).map(|i| f * rows[first][i] + g * rows[second][i]).collect()
            }
            (_, 0) => (0..n).map(|_| draw.normal()).collect(),
            (_, 1) => (0..n).map(|_| if draw.unit() < 0.2 { draw.normal() } else { 0.0 }).collect(),
            (_, 2) => {
                // A moment of a feature against the scores.
                let power = 1 + k as i32 % 4;
                let mean = feature.iter().map(|s| s.powi(power)).sum::<f64>() / n as f64;
                feature.iter().map(|s| (s.powi(power) - mean) / n as f64).collect()
            }
            (_, 3) => (0..n).map(|_| draw.exponential()).collect(),
            _ => p.weights.iter().map(|w| if draw.unit() < 0.5 { *w } else { 0.0 }).collect(),
        };
        rows.push(row);
    }
    if draw.unit() < 0.3 {
        for row in &mut rows {
            let scale = 10_f64.powf(draw.between(-6.0, 6.0));
            row.iter_mut().for_each(|a| *a *= scale);
        }
    }
    rows
}

/// Row bounds that a point within the bounds meets; with the problem's epsilon for room, in units of the predictions.
fn bounds_around_a_point(draw: &mut Draw<'_>, kind: Kind, case: &mut Case) -> Vec<(f64, f64)> {
    let Case { stated: p, epsilon, feasible, .. } = case;
    let within = |draw: &mut Draw<'_>, i: usize| {
        let (lo, hi) = (p.lo[i].max(-1.0), p.hi[i].min(2.0));
        match kind {
            // All means are the same there.
            Kind::DenseBesideMeans => 0.5,
            Kind::DenseCorner if draw.unit() < 0.8 => draw.pick(&[lo, hi]),
            _ => lo + (hi - lo) * draw.between(0.1, 0.9),
        }
    };
    let point: Vec<f64> = (0..p.z.len()).map(|i| within(draw, i)).collect();
    let equalities = draw.unit() < 0.4;
    let mut held = false;
    let of_row = |a: &Vec<f64>| {
        let (value, room) = (dot(a, &point), *epsilon / unit_of(a, &p.weights));
        match draw.below(5) {
            0 if equalities => {
                held = true;
                (value, value)
            }
            0 | 1 => (value - room, value + room),
            2 => (f64::NEG_INFINITY, value + room),
            3 => (value - room, f64::INFINITY),
            _ => (value - room, value + 3.0 * room),
        }
    };
    let bounds = p.coefficients.iter().map(of_row).collect();
    *feasible = Some(true);
    if held {
        *epsilon = 0.0;
    }
    bounds
}

/// One-sided rows whose sum, in some mix, asks for a little more than the bounds allow, or just not; of infinite bounds, for
/// more than another row allows.
fn contradictory_bounds(draw: &mut Draw<'_>, case: &mut Case) -> Vec<(f64, f64)> {
    let p = &mut case.stated;
    let n = p.z.len();
    let boxed = p.lo.iter().chain(&p.hi).all(|bound| bound.is_finite());
    let mix: Vec<f64> = p
        .coefficients
        .iter()
        .map(|a| draw.pick(&[-1.0, 1.0]) * draw.between(0.2, 1.0) * unit_of(a, &p.weights))
        .collect();
    let mixed: Vec<f64> = (0..n).map(|i| p.coefficients.iter().zip(&mix).map(|(a, d)| a[i] * d).sum()).collect();
    let extreme: Vec<f64> = (0..n)
        .map(|i| match boxed {
            true => {
                if mixed[i] > 0.0 {
                    p.hi[i]
                } else {
                    p.lo[i]
                }
            }
            false => draw.between(0.2, 0.8),
        })
        .collect();
    let beyond = 10_f64.powf(draw.between(-5.0, -0.5)) * draw.pick(&[-1.0, 1.0]);
    let one_sided = |a: &Vec<f64>, d: f64| {
        let (value, gap) = (dot(a, &extreme), beyond / unit_of(a, &p.weights));
        if d > 0.0 { (value + gap, f64::INFINITY) } else { (f64::NEG_INFINITY, value - gap) }
    };
    let mut bounds: Vec<(f64, f64)> = p.coefficients.iter().zip(&mix).map(|(a, d)| one_sided(a, *d)).collect();
    if !boxed {
        // What the mix must be at least, by its rows, is what one more row denies it.
        bounds.push(one_sided(&mixed, -1.0));
        p.coefficients.push(mixed);
    }
    (case.epsilon, case.feasible) = (0.0, Some(beyond < 0.0));
    bounds
}
