//! The projection itself: which device, which number type, and the answers in double precision.

use std::time::{Duration, Instant};

use crate::{Batch, Buffer, Capacities, Device, DeviceInfo, Offsets, Outcome, Projector, Settings, Status, Storage};

use super::args::{Bounds, DeviceName, Dtype, Method, ProjectArgs};
use super::failure::{Failure, Result};
use super::plan::Plan;
use super::problems::Problems;

/// The columns of the file, in the order of the problems.
pub struct Samples {
    pub scores: Vec<f64>,
    /// The group of every sample, for every sensitive feature.
    pub groups: Vec<Vec<u8>>,
    /// If the criterion needs them.
    pub labels: Option<Vec<f64>>,
    /// If the criterion needs it.
    pub control: Option<Vec<u8>>,
    pub weights: Option<Vec<f64>>,
    /// Of the dense rows, problem by problem `[m, n]`.
    pub coefficients: Vec<f64>,
}

/// Where and how to compute.
pub struct Engine {
    device: Device,
    dtype: Dtype,
    settings: Settings,
    /// Why faster devices were not taken.
    pub passed_over: Vec<String>,
}

impl Engine {
    /// What the arguments ask for, if this version has it.
    pub fn of(args: &ProjectArgs) -> Result<Self> {
        let (device, passed_over) = match args.device {
            DeviceName::Cpu => (Device::cpu(), Vec::new()),
            DeviceName::Auto => auto(args.dtype),
            DeviceName::Wgpu => (wgpu(args.dtype)?, Vec::new()),
            DeviceName::Cuda => (cuda()?, Vec::new()),
        };
        let method = match args.method {
            Method::Newton => crate::Method::Newton,
            Method::Admm => crate::Method::Admm,
        };
        Ok(Self { device, dtype: args.dtype, settings: Settings { method, ..Settings::default() }, passed_over })
    }

    /// What reports call the device.
    pub fn device_name(&self) -> &'static str {
        self.device.kind()
    }

    /// Projects all problems.
    pub fn project(&self, samples: &Samples, problems: &Problems, plan: &Plan, bounds: Bounds) -> Result<Solved> {
        match self.dtype {
            Dtype::F64 => self.solve(&samples.scores, (bounds.lo, bounds.hi), samples, problems, plan),
            Dtype::F32 => {
                // Every score was found to be in range when it was read.
                let scores: Vec<f32> = samples.scores.iter().map(|&score| score as f32).collect();
                self.solve(&scores, single_bounds(bounds)?, samples, problems, plan)
            }
        }
    }

    fn solve<T: Storage>(
        &self,
        scores: &[T],
        (lo, hi): (T, T),
        samples: &Samples,
        problems: &Problems,
        plan: &Plan,
    ) -> Result<Solved> {
        let offsets = Offsets::Ragged(&problems.offsets);
        let groups: Vec<Buffer<'_, u8>> = samples.groups.iter().map(Buffer::from).collect();
        let mut batch = Batch::new(scores, offsets).bounds(lo, hi).coefficients(&samples.coefficients);
        if plan.constraints.needs_cells() {
            batch = batch.groups(&groups);
        }
        if let Some(labels) = &samples.labels {
            batch = batch.labels(labels);
        }
        if let Some(control) = &samples.control {
            batch = batch.control(control);
        }
        if let Some(weights) = &samples.weights {
            batch = batch.weights(weights);
        }
        let capacities = Capacities::of(&offsets);
        let mut projector = Projector::plan(&self.device, &plan.constraints, capacities, self.settings)?;
        let mut solution = projector.solution();
        let started = Instant::now();
        projector.project_into(&batch, &mut solution)?;
        let view = solution.read()?;
        let time = started.elapsed();
        let rows = plan.constraints.rows();
        let inactive = (0..problems.count()).flat_map(|problem| (0..rows).map(move |row| (problem, row)));
        Ok(Solved {
            fair: view.y.iter().map(|y| y.to_f64()).collect(),
            outcomes: view.outcomes.to_vec(),
            multipliers: view.multipliers.to_vec(),
            inactive: inactive.map(|(problem, row)| view.is_inactive(problem, row)).collect(),
            rows,
            time,
        })
    }
}

/// The fastest device for this number type.
fn auto(dtype: Dtype) -> (Device, Vec<String>) {
    let reason = |other: DeviceInfo| Some(format!("{}: {}", other.kind, other.usable.err()?));
    if dtype == Dtype::F64 {
        let cuda = crate::devices_of("cuda").into_iter().filter_map(reason);
        return (Device::cpu(), cuda.chain([format!("wgpu: {NO_F64}")]).collect());
    }
    let (device, others) = Device::auto();
    (device, others.into_iter().filter_map(reason).collect())
}

const NO_F64: &str = "its shaders have no double precision; use --dtype f32";

#[cfg(feature = "wgpu")]
fn wgpu(dtype: Dtype) -> Result<Device> {
    match dtype {
        Dtype::F64 => Err(Failure::new(format!("--device wgpu: {NO_F64}, or --device cpu"))),
        Dtype::F32 => Ok(Device::wgpu()?),
    }
}

#[cfg(feature = "cuda")]
fn cuda() -> Result<Device> {
    Device::cuda(0).map_err(|error| Failure::new(format!("--device cuda cannot be used: {error}")))
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Result<Device> {
    Err(unusable("cuda"))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_: Dtype) -> Result<Device> {
    Err(unusable("wgpu"))
}

#[cfg(not(all(feature = "cuda", feature = "wgpu")))]
fn unusable(kind: &str) -> Failure {
    let known = crate::devices_of(kind).into_iter().next();
    let why = known.and_then(|device| device.usable.err()).unwrap_or_else(|| "it is not in this version".to_owned());
    Failure::new(format!("--device {kind} cannot be used: {why}"))
}

/// The bounds in single precision, rounded inwards so that what is written lies within the bounds as they were given.
fn single_bounds(bounds: Bounds) -> Result<(f32, f32)> {
    let (lo, hi) = (bounds.lo as f32, bounds.hi as f32);
    for (given, narrowed) in [(bounds.lo, lo), (bounds.hi, hi)] {
        if given.is_finite() && !narrowed.is_finite() {
            return Err(Failure::new(format!("--bounds: {given} is too large for f32; use --dtype f64")));
        }
    }
    let lo = if f64::from(lo) < bounds.lo { lo.next_up() } else { lo };
    let hi = if f64::from(hi) > bounds.hi { hi.next_down() } else { hi };
    if lo < hi {
        Ok((lo, hi))
    } else {
        let what = format!("--bounds: {} and {} are too close together for f32; use --dtype f64", bounds.lo, bounds.hi);
        Err(Failure::new(what))
    }
}

/// The answers, in the order of the problems.
pub struct Solved {
    pub fair: Vec<f64>,
    pub outcomes: Vec<Outcome>,
    multipliers: Vec<f64>,
    inactive: Vec<bool>,
    rows: usize,
    /// The time that the projection took, without reading and planning.
    pub time: Duration,
}

impl Solved {
    /// The multipliers of a problem, one for every row of the constraints.
    pub fn multipliers(&self, problem: usize) -> &[f64] {
        &self.multipliers[problem * self.rows..(problem + 1) * self.rows]
    }

    /// The rows that were left out of a problem because groups are absent from it.
    pub fn inactive_rows(&self, problem: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.rows).filter(move |row| self.inactive[problem * self.rows + row])
    }

    /// The problems without a solution.
    pub fn unsolved(&self) -> impl Iterator<Item = (usize, Status)> + '_ {
        let statuses = self.outcomes.iter().map(|outcome| outcome.status).enumerate();
        statuses.filter(|(_, status)| *status != Status::Solved)
    }

    /// How many problems ended with this status.
    pub fn count(&self, status: Status) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.status == status).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_bounds_lie_within_the_given_ones() {
        let (lo, hi) = single_bounds(Bounds { lo: 0.7, hi: 1.1 }).unwrap();
        assert!(f64::from(lo) >= 0.7 && f64::from(hi) <= 1.1 && hi - lo > 0.39);
        assert_eq!(single_bounds(Bounds { lo: 0.0, hi: f64::INFINITY }).unwrap(), (0.0, f32::INFINITY));
        assert!(single_bounds(Bounds { lo: 0.0, hi: 1e300 }).is_err());
        assert!(single_bounds(Bounds { lo: 0.5, hi: 0.5 + 1e-12 }).is_err());
    }
}
