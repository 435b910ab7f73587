//! Problems with a planted solution: y*, nu* and the active set are chosen, then `z = y* + W^-1 A^T nu*` and the limits
//! are what makes them right. Nothing of them comes from a solver.
//!
//! Every inequality that is not active has room of at least `MARGIN`, every element that is clamped lies `MARGIN` beyond
//! its bound, every multiplier moves its means by `MARGIN` or more, and active rows are well independent on the free
//! elements. So differences with steps well under `MARGIN` stay on one piece of the projection.

use super::kkt::Stated;
use super::rows::{Limits, Origin, Row, dot, live_rows, shifts};
use fairlayer::*;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

/// How far a planted problem stays away from every change of its active set, in units of the predictions.
pub const MARGIN: f64 = 4e-3;

/// A problem and its answer.
#[derive(Clone, Debug)]
pub struct Planted {
    pub name: &'static str,
    pub set: ConstraintSet,
    pub stated: Stated,
    pub limits: Limits,
    pub y: Vec<f64>,
    pub nu: Vec<f64>,
    pub states: Vec<ClampState>,
}

/// What is to be planted.
struct Design {
    name: &'static str,
    set: ConstraintSet,
    /// The spread's means are moved to three levels, so that several rows are held on each side. For spreads whose unions
    /// do not overlap.
    aligned: bool,
}

/// One planted problem of every design. Half of them have weights and bounds for every element.
pub fn planted_problems(rng: &mut Pcg64Mcg) -> Vec<Planted> {
    let designs = designs();
    designs.into_iter().enumerate().map(|(i, design)| plant(rng, &design, i % 2 == 0)).collect()
}

fn designs() -> Vec<Design> {
    let groups = Population::one_feature;
    let features =
        |counts: &[usize]| Population::of_features(counts.iter().map(|count| SensitiveFeature::new("feature", *count)));
    let pairwise = |epsilon| Parity::Pairwise { epsilon };
    let overall = Parity::Overall { epsilon: 0.05 };
    let ratio = Parity::Ratio { ratio: 0.8 };
    let design = |name, aligned, criterion: &dyn Criterion, people: &Population| Design {
        name,
        set: criterion.constraints(people).expect("a criterion's constraints"),
        aligned,
    };
    let mut all = vec![
        design("two groups", true, &DemographicParity(pairwise(0.05)), &groups(2)),
        design("two groups, weighted", true, &DemographicParity(pairwise(0.05)), &groups(2)),
        design("five groups", true, &DemographicParity(pairwise(0.05)), &groups(5)),
        design("seven groups", true, &DemographicParity(pairwise(0.05)), &groups(7)),
        design("equal means of two", true, &DemographicParity(pairwise(0.0)), &groups(2)),
        design("equal means of four", true, &DemographicParity(pairwise(0.0)), &groups(4)),
        design("ratio of two", true, &DemographicParity(ratio), &groups(2)),
        design("ratio of four", false, &DemographicParity(ratio), &groups(4)),
        design("ratio of six", true, &DemographicParity(ratio), &groups(6)),
        design("overall of three", false, &DemographicParity(overall), &groups(3)),
        design("overall of five", false, &DemographicParity(overall), &groups(5)),
        design("equalized odds", true, &EqualizedOdds(pairwise(0.05)), &groups(3)),
        design("equalized odds, ratio", true, &EqualizedOdds(ratio), &groups(2)),
        design("equalized odds, overall", false, &EqualizedOdds(overall), &groups(3)),
        design("true positives", true, &TruePositiveRateParity(pairwise(0.05)), &groups(4)),
        design("false positives", false, &FalsePositiveRateParity(pairwise(0.05)), &groups(3)),
        design("conditional", true, &ConditionalParity(pairwise(0.05)), &groups(2).with_control(3)),
        design("conditional, ratio", false, &ConditionalParity(ratio), &groups(3).with_control(2)),
        design("mean residual", false, &MeanResidual::within(0.05), &groups(3)),
        design("mean residuals of two features", false, &MeanResidual::within(0.05), &features(&[2, 3])),
        design("two features", false, &DemographicParity(pairwise(0.05)), &features(&[2, 3])),
        design("three features", false, &DemographicParity(pairwise(0.05)), &features(&[2, 3, 4])),
        design("two features, ratio", false, &DemographicParity(ratio), &features(&[3, 2])),
        design("intersectional", true, &DemographicParity(pairwise(0.05)), &features(&[2, 3]).intersectional()),
        design("odds of two features", false, &EqualizedOdds(pairwise(0.05)), &features(&[2, 2])),
    ];
    all.push(Design { name: "contrasts", set: contrasts(None), aligned: false });
    all.push(Design { name: "contrasts, weighted", set: contrasts(None), aligned: false });
    for (name, limit) in [
        ("contrasts and a spread", SpreadLimit::Difference(0.05)),
        ("contrasts and a spread, weighted", SpreadLimit::Difference(0.05)),
        ("contrasts and a ratio", SpreadLimit::Ratio(0.8)),
        ("contrasts and a ratio, weighted", SpreadLimit::Ratio(0.8)),
    ] {
        all.push(Design { name, set: contrasts(Some(limit)), aligned: false });
    }
    let only_contrasts = contrasts(None);
    let beside = |limit| contrasts(Some(limit));
    let apart = SpreadLimit::Difference;
    for (name, set, rows) in [
        ("a dense row", flat(1), 1),
        ("a dense row, weighted", flat(1), 1),
        ("dense rows", flat(1), 4),
        ("dense rows, weighted", flat(1), 4),
        ("dense rows and contrasts", only_contrasts.clone(), 3),
        ("dense rows and contrasts, weighted", only_contrasts, 3),
        ("dense rows, contrasts and a spread", beside(apart(0.05)), 2),
        ("dense rows, contrasts and a spread, weighted", beside(apart(0.05)), 2),
        ("dense rows, contrasts and a ratio", beside(SpreadLimit::Ratio(0.8)), 2),
        ("dense rows, contrasts and a ratio, weighted", beside(SpreadLimit::Ratio(0.8)), 2),
    ] {
        all.push(Design { name, set: with_dense(set, rows), aligned: false });
    }
    for (name, epsilon) in [("dense rows and equal means", 0.0), ("dense rows and four groups, weighted", 0.05)] {
        let set = DemographicParity(pairwise(epsilon)).constraints(&groups(4)).expect("a criterion's constraints");
        all.push(Design { name, set: with_dense(set, 2), aligned: true });
    }
    all
}

/// The set with dense rows that allow anything yet.
pub fn with_dense(mut set: ConstraintSet, rows: usize) -> ConstraintSet {
    (0..rows).for_each(|_| {
        set.push_dense(DenseRow::new("dense", f64::NEG_INFINITY, f64::INFINITY)).expect("a dense row");
    });
    set
}

/// A mask of cells.
pub fn mask(cells: impl IntoIterator<Item = usize>) -> CellMask {
    CellMask::of(cells).expect("cells below 256")
}

/// A contrast that is not about residuals.
pub fn contrast(plus: CellMask, minus: CellMask, scale: f64, lower: f64, upper: f64) -> Contrast {
    Contrast { plus: Union::new(plus, "contrast"), minus, scale, lower, upper, residual: false }
}

/// A spread over unions of cells.
pub fn spread(unions: impl IntoIterator<Item = CellMask>, limit: SpreadLimit) -> Spread {
    Spread { unions: unions.into_iter().map(|cells| Union::new(cells, "union")).collect(), limit }
}

/// Constraints over cells that are given directly.
pub fn flat(cells: usize) -> ConstraintSet {
    ConstraintSet::new(CellLayout::flat(cells).expect("up to 256 cells"))
}

/// Contrasts of every form over six cells, some of them about residuals.
fn contrasts(limit: Option<SpreadLimit>) -> ConstraintSet {
    let mut set = flat(6);
    if let Some(limit) = limit {
        set.push_spread(spread([mask([0, 1]), mask([2, 3]), mask([4, 5])], limit)).expect("a spread");
    }
    let rows = [
        contrast(mask([0, 2]), mask([1, 3, 4]), 1.0, -0.1, 0.1),
        contrast(mask([1, 2]), mask([2, 5]), 0.5, -0.1, 0.1),
        contrast(mask([3]), CellMask::EMPTY, 0.0, 0.0, 1.0),
        contrast(mask([4]), mask([4, 5]), 1.0, -0.1, 0.1),
        Contrast { residual: true, ..contrast(mask([0, 4]), mask([1]), 1.5, -0.1, 0.1) },
    ];
    rows.into_iter().for_each(|row| {
        set.push_contrast(row).expect("a contrast");
    });
    set
}

fn between(rng: &mut Pcg64Mcg, lo: f64, hi: f64) -> f64 {
    lo + (hi - lo) * rng.random::<f64>()
}

fn plant(rng: &mut Pcg64Mcg, design: &Design, weighted: bool) -> Planted {
    (0..10_000)
        .find_map(|_| try_to_plant(rng, design, weighted))
        .unwrap_or_else(|| panic!("cannot plant {}", design.name))
}

/// Draws a problem; none if the draw does not keep the margins.
fn try_to_plant(rng: &mut Pcg64Mcg, design: &Design, weighted: bool) -> Option<Planted> {
    let set = &design.set;
    let count = set.layout().cells();
    let n = 5 * count + 12;
    let strata = set.layout().strata();
    let cells: Vec<u8> =
        (0..n).map(|i| if i < 3 * count { i % count } else { rng.random_range(0..count) } as u8).collect();
    let label = |cell: u8, rng: &mut Pcg64Mcg| match strata {
        Strata::Label => f64::from(cell % 2),
        _ => between(rng, 0.0, 1.0),
    };
    let labels = cells.iter().map(|cell| label(*cell, rng)).collect();
    let weights: Vec<f64> = (0..n).map(|_| if weighted { between(rng, 0.4, 2.5) } else { 1.0 }).collect();
    // Lower bounds are above 0, so that those of ratios may fall a little.
    let bound = |rng: &mut Pcg64Mcg, (from, to): (f64, f64)| if weighted { between(rng, from, to) } else { to };
    let lo: Vec<f64> = (0..n).map(|_| bound(rng, (0.02, 0.1))).collect();
    let hi: Vec<f64> = (0..n).map(|_| bound(rng, (0.9, 1.0))).collect();
    // The first sample of every cell is free, so that every row can move.
    let clamps = |i: usize, rng: &mut Pcg64Mcg| match rng.random_range(0..6) {
        0 if i >= 2 * count => ClampState::AtLower,
        1 if i >= 2 * count => ClampState::AtUpper,
        _ => ClampState::Free,
    };
    let states: Vec<ClampState> = (0..n).map(|i| clamps(i, rng)).collect();
    let y = (0..n).map(|i| match states[i] {
        ClampState::Free => between(rng, 0.3, 0.7),
        ClampState::AtLower => lo[i],
        ClampState::AtUpper => hi[i],
    });
    let y: Vec<f64> = y.collect();
    let nu = vec![0.0; set.rows()];
    // A row in three speaks of half the samples only.
    let coefficients = (0..set.dense().len())
        .map(|k| {
            let about = |i: usize| k % 3 != 1 || i.is_multiple_of(2);
            (0..n).map(|i| if about(i) { between(rng, -2.0, 2.0) / n as f64 } else { 0.0 }).collect()
        })
        .collect();
    let stated = Stated { z: vec![0.0; n], cells, weights, labels, lo, hi, coefficients };
    let rows = live_rows(set, &stated);
    let mut p = Planted { name: design.name, set: set.clone(), stated, limits: Limits::of(set), y, nu, states };
    for s in 0..set.spreads().len() {
        plant_spread(rng, &mut p, &rows, s, design.aligned)?;
    }
    plant_bounded_rows(rng, &mut p, &rows)?;
    if !independent(&p, &rows) {
        return None;
    }
    let shift = shifts(&rows, n, &p.nu);
    for (i, shift) in shift.iter().enumerate() {
        let beyond = match p.states[i] {
            ClampState::Free => 0.0,
            ClampState::AtLower => -between(rng, 2.0 * MARGIN, 0.5),
            ClampState::AtUpper => between(rng, 2.0 * MARGIN, 0.5),
        };
        p.stated.z[i] = p.y[i] + shift + beyond;
    }
    let within = |i: usize| p.stated.lo[i] + MARGIN < p.y[i] && p.y[i] < p.stated.hi[i] - MARGIN;
    (0..n).all(|i| p.states[i] != ClampState::Free || within(i)).then_some(p)
}

fn plant_spread(rng: &mut Pcg64Mcg, p: &mut Planted, rows: &[Row], index: usize, aligned: bool) -> Option<()> {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.origin == Origin::Spread(index)).collect();
    let ratio = match p.set.spreads()[index].limit {
        SpreadLimit::Ratio(ratio) => Some(ratio),
        SpreadLimit::Difference(_) => None,
    };
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let (tops, bottoms);
    if aligned {
        order.shuffle(rng);
        tops = rows.len().div_ceil(3);
        bottoms = if p.limits.levels[index] == 0.0 { rows.len() - tops } else { (rows.len() / 3).max(1) };
        let level = p.limits.levels[index];
        let centre = between(rng, 0.47, 0.53);
        let (top, bottom) = match ratio {
            Some(ratio) => (2.0 * centre / (1.0 + ratio), 2.0 * centre * ratio / (1.0 + ratio)),
            None => (centre + level / 2.0, centre - level / 2.0),
        };
        for (place, &k) in order.iter().enumerate() {
            let target = match place {
                _ if place < tops => top,
                _ if place >= rows.len() - bottoms => bottom,
                _ => centre,
            };
            align(p, rows[k], target);
        }
    } else {
        order.sort_by(|a, b| rows[*b].value(&p.y).total_cmp(&rows[*a].value(&p.y)));
        (tops, bottoms) = (1, 1);
        let values: Vec<f64> = order.iter().map(|k| rows[*k].value(&p.y)).collect();
        let last = values.len() - 1;
        p.limits.levels[index] = if ratio.is_some() { values[last] / values[0] } else { values[0] - values[last] };
        if values[0] - values[last] < 4.0 * MARGIN
            || (last > 1 && (values[0] - values[1] < MARGIN || values[last - 1] - values[last] < MARGIN))
        {
            return None;
        }
    }
    // Multipliers are planted as shifts of 0.03 to 0.2. Above: positive; below: negative; and the balance.
    let below = &order[rows.len() - bottoms..];
    let multipliers = |which: &[usize], rng: &mut Pcg64Mcg| -> Vec<f64> {
        which.iter().map(|k| between(rng, 0.04, 0.15) / rows[*k].reach()).collect()
    };
    let (above, shares) = (multipliers(&order[..tops], rng), multipliers(below, rng));
    let factor = above.iter().sum::<f64>() / shares.iter().sum::<f64>() / ratio.map_or(1.0, |_| p.limits.levels[index]);
    if !(0.25..4.0).contains(&factor) {
        return None;
    }
    order[..tops].iter().zip(above).for_each(|(k, nu)| p.nu[rows[*k].index] = nu);
    below.iter().zip(shares).for_each(|(k, share)| p.nu[rows[*k].index] = -share * factor);
    Some(())
}

/// Moves the free elements of a union so that its mean is `target`.
fn align(p: &mut Planted, row: &Row, target: f64) {
    for _ in 0..3 {
        let free = |i: usize| p.states[i] == ClampState::Free && row.a[i] != 0.0;
        let movable: f64 = (0..p.y.len()).filter(|&i| free(i)).map(|i| row.a[i]).sum();
        let step = (target - row.value(&p.y)) / movable;
        let moved: Vec<usize> = (0..p.y.len()).filter(|&i| free(i)).collect();
        moved.into_iter().for_each(|i| p.y[i] += step);
    }
}

fn plant_bounded_rows(rng: &mut Pcg64Mcg, p: &mut Planted, rows: &[Row]) -> Option<()> {
    for row in rows {
        let Origin::Bounded(k) = row.origin else { continue };
        let value = row.value(&p.y);
        let room = between(rng, 2.0 * MARGIN, 0.2) / row.unit;
        let far = if rng.random::<f64>() < 0.4 { f64::INFINITY } else { between(rng, 0.05, 0.3) / row.unit };
        let nu = between(rng, 0.04, 0.15) / row.reach();
        let (lower, upper, nu) = match rng.random_range(0..5) {
            0 => (value - far, value, nu),
            1 => (value, value + far, -nu),
            2 => (value, value, nu),
            3 => (value, value, -nu),
            _ => (value - room, value + far, 0.0),
        };
        (p.limits.lower[k], p.limits.upper[k], p.nu[row.index]) = (lower, upper, nu);
    }
    p.nu.iter().any(|nu| *nu != 0.0).then_some(())
}

/// Whether the active rows, of spreads their differences, are well independent on the free elements.
fn independent(p: &Planted, rows: &[Row]) -> bool {
    let mut directions: Vec<Vec<f64>> = Vec::new();
    let mut first_of = vec![None; p.set.spreads().len()];
    for row in rows.iter().filter(|row| p.nu[row.index] != 0.0) {
        let on_free =
            |i: usize| if p.states[i] == ClampState::Free { row.a[i] / p.stated.weights[i].sqrt() } else { 0.0 };
        let mut a: Vec<f64> = (0..p.y.len()).map(on_free).collect();
        if let Origin::Spread(s) = row.origin {
            let scale = if p.nu[row.index] < 0.0 { spread_ratio(p, s) } else { 1.0 };
            a.iter_mut().for_each(|a| *a /= scale);
            match &first_of[s] {
                None => {
                    first_of[s] = Some(a);
                    continue;
                }
                Some(first) => a.iter_mut().zip(first).for_each(|(a, first): (&mut f64, &f64)| *a -= first),
            }
        }
        let length = dot(&a, &a).sqrt();
        for _ in 0..2 {
            for direction in &directions {
                let along = dot(&a, direction);
                a.iter_mut().zip(direction).for_each(|(a, d)| *a -= along * d);
            }
        }
        let rest = dot(&a, &a).sqrt();
        if rest <= 0.4 * length {
            return false;
        }
        a.iter_mut().for_each(|a| *a /= rest);
        directions.push(a);
    }
    true
}

fn spread_ratio(p: &Planted, spread: usize) -> f64 {
    match p.set.spreads()[spread].limit {
        SpreadLimit::Ratio(_) => p.limits.levels[spread],
        SpreadLimit::Difference(_) => 1.0,
    }
}
