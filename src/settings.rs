//! What a user may choose about the method. The defaults are right for nearly everyone.

use crate::error::{Error, Result};

/// How problems are solved. Both methods end in the same stop test, so what is promised does not depend on the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Method {
    /// Proximal Newton on the dual: a few steps, exact. A problem that it does not solve is handed to ADMM, and if that does
    /// not solve it either and it has no spreads, to an active set method in numbers of twice the digits. Rows over cells
    /// are expanded for that if they have no more than 2^23 coefficients in the largest problem planned for (64 MiB, and some
    /// 450 bytes a sample, that are touched only then); larger problems, and those on a GPU, which nothing waits for, end
    /// with [`Status::IterationLimit`](crate::Status).
    #[default]
    Newton,
    /// The alternating direction method of multipliers in the form of OSQP: many cheap steps to an approximate answer,
    /// which Newton then finishes. Rows over cells are expanded for it. A check on the other. On a wgpu device that the CPU
    /// emulates, whose dispatches are short, it hands over after some thousands of steps at the latest.
    Admm,
}

/// Settings of [`Method::Admm`], with OSQP's names. Where it ends Newton takes over, so that none of them touches what is
/// promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdmmSettings {
    /// The residuals that are allowed, in units of the predictions. Default 1e-7.
    pub eps_abs: f64,
    /// The same, relative to the largest of what a residual is the difference of. Default 1e-7.
    pub eps_rel: f64,
    /// Default 20,000.
    pub max_iterations: u32,
    /// Over-relaxation, above 0 and below 2. Default 1.6.
    pub relaxation: f64,
    /// Weight of the term that keeps an iterate near the last one. Default 1e-6.
    pub sigma: f64,
    /// The penalty to begin with, for rows of length 1; it adapts. Equalities have more. Default 1.
    pub rho: f64,
}

impl Default for AdmmSettings {
    fn default() -> Self {
        Self { eps_abs: 1e-7, eps_rel: 1e-7, max_iterations: 20_000, relaxation: 1.6, sigma: 1e-6, rho: 1.0 }
    }
}

impl AdmmSettings {
    fn check(&self) -> Result<()> {
        let Self { eps_abs, eps_rel, relaxation, sigma, rho, .. } = *self;
        let from_zero = |value: f64| value >= 0.0 && value.is_finite();
        let positive = |value: f64| value > 0.0 && value.is_finite();
        for (what, value, right, expected) in [
            ("eps_abs", eps_abs, from_zero(eps_abs), "a finite number >= 0"),
            ("eps_rel", eps_rel, from_zero(eps_rel), "a finite number >= 0"),
            ("relaxation", relaxation, relaxation > 0.0 && relaxation < 2.0, "above 0 and below 2"),
            ("sigma", sigma, positive(sigma), "a finite number > 0"),
            ("rho", rho, positive(rho), "a finite number > 0"),
        ] {
            if !right {
                return Err(Error::value(what, format!("{value} is not {expected}")));
            }
        }
        Ok(())
    }
}

/// What becomes of a problem that has no solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Infeasible {
    /// It is reported, with a proof, and `y = clip(z)`.
    #[default]
    Report,
    /// It gets the nearest point of those that violate its rows the least, and is
    /// [`Status::Relaxed`](crate::Status::Relaxed): for training loops that must go on. Every row is relaxed by the same
    /// amount in units of the predictions, the smallest that is enough (to 2e-6; to 2e-4 where less leaves too little room to
    /// find the answer in, which is rare).
    NearestFeasible,
}

/// Settings of a [`Projector`](crate::Projector).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The largest allowed residual (violation and complementarity) in units of the predictions. It is raised, problem
    /// by problem, to what rounding to the storage type makes reachable. Default 1e-11. At 0, problems with dense rows and
    /// without spreads are solved to all digits that there are, which takes longer.
    pub tolerance: f64,
    /// The most Newton steps before a problem ends with [`Status::IterationLimit`](crate::Status), anew for every time that its
    /// rows are relaxed. Default 600.
    pub max_iterations: u32,
    /// Default [`Method::Newton`].
    pub method: Method,
    /// How ADMM works, where it does.
    pub admm: AdmmSettings,
    /// Default [`Infeasible::Report`].
    pub infeasible: Infeasible,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tolerance: 1e-11,
            max_iterations: 600,
            method: Method::default(),
            admm: AdmmSettings::default(),
            infeasible: Infeasible::default(),
        }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<()> {
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return Err(Error::value("tolerance", format!("{} is not a finite number >= 0", self.tolerance)));
        }
        self.admm.check()
    }
}
