//! What a user may choose about the method. The defaults are right for nearly everyone.

use crate::error::{Error, Result};

/// How problems are solved. Both methods end in the same stop test, so what is promised does not depend on the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Method {
    /// Proximal Newton on the dual: a few steps, exact. A problem that it does not solve is handed to ADMM.
    #[default]
    Newton,
    /// The alternating direction method of multipliers in the form of OSQP: many cheap steps to an approximate answer,
    /// which Newton then finishes. Rows over cells are expanded for it. A check on the other.
    Admm,
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
    /// amount in units of the predictions, the smallest that is enough.
    NearestFeasible,
}

/// Settings of a [`Projector`](crate::Projector).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The largest allowed residual (violation and complementarity) in units of the predictions. It is raised, problem
    /// by problem, to what rounding to the storage type makes reachable. Default 1e-11.
    pub tolerance: f64,
    /// The most Newton steps before a problem ends with [`Status::IterationLimit`](crate::Status). Default 600.
    pub max_iterations: u32,
    /// Default [`Method::Newton`].
    pub method: Method,
    /// Default [`Infeasible::Report`].
    pub infeasible: Infeasible,
}

impl Default for Settings {
    fn default() -> Self {
        Self { tolerance: 1e-11, max_iterations: 600, method: Method::default(), infeasible: Infeasible::default() }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<()> {
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return Err(Error::value("tolerance", format!("{} is not a finite number >= 0", self.tolerance)));
        }
        Ok(())
    }
}
