//! The line search along a Newton direction, by slopes only: the objective itself drowns in rounding.

/// The derivative of `sigma` along `d` at `nu`, seen from the left (`a` rising to it) or the right.
pub(crate) fn support_slope(lower: &[f64], upper: &[f64], nu: &[f64], d: &[f64], from_left: bool) -> f64 {
    let mut slope = 0.0;
    for r in 0..d.len() {
        if d[r] != 0.0 {
            let at = if nu[r] != 0.0 {
                nu[r]
            } else if from_left {
                -d[r]
            } else {
                d[r]
            };
            slope += d[r] * if at > 0.0 { upper[r] } else { lower[r] };
        }
    }
    slope
}

/// A step and the slope of the smooth part there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) step: f64,
    pub(crate) slope: f64,
}

/// The step between `lo` and `hi` where the slope is zero if the smooth part is linear in between. Kinks of sigma, where
/// a multiplier passes zero, are met exactly. `kinks` is scratch; with `bisect` the middle is taken instead, so that a
/// smooth part that is far from linear cannot hold the search up.
pub(crate) fn root_between(
    (lower, upper): (&[f64], &[f64]),
    nu: &[f64],
    d: &[f64],
    (lo, hi): (Sample, Sample),
    bisect: bool,
    kinks: &mut Vec<f64>,
    moved: &mut [f64],
) -> f64 {
    let width = hi.step - lo.step;
    let smooth = |a: f64| lo.slope + (hi.slope - lo.slope) * (a - lo.step) / width;
    kinks.clear();
    kinks.push(lo.step);
    let zeros = nu.iter().zip(d).filter(|(_, d)| **d != 0.0).map(|(nu, d)| -nu / d);
    kinks.extend(zeros.filter(|a| *a > lo.step && *a < hi.step));
    kinks.push(hi.step);
    kinks.sort_unstable_by(f64::total_cmp);
    kinks.dedup();
    let mut root = hi.step;
    for pair in kinks.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let middle = a / 2.0 + b / 2.0;
        for r in 0..d.len() {
            moved[r] = nu[r] + middle * d[r];
        }
        let kinked = support_slope(lower, upper, &moved[..d.len()], d, true);
        if kinked + smooth(b) >= 0.0 {
            if kinked + smooth(a) >= 0.0 && a > lo.step {
                return a;
            }
            let rise = (smooth(b) - smooth(a)).max(1e-300);
            root = a + (b - a) * (-(kinked + smooth(a))).max(0.0) / rise;
            break;
        }
    }
    if bisect {
        let geometric = lo.step > 0.0 && lo.step < 0.01 * hi.step;
        root = if geometric { (lo.step * hi.step).sqrt() } else { lo.step + 0.5 * width };
    }
    root.max(lo.step + 0.05 * width).min(hi.step - 0.05 * width)
}
