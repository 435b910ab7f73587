//! What a user may choose about the method. The defaults are right for nearly everyone.

use crate::error::{Error, Result};

/// Settings of a [`Projector`](crate::Projector).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The largest allowed residual (violation and complementarity) in units of the predictions. It is raised, problem
    /// by problem, to what rounding to the storage type makes reachable. Default 1e-11.
    pub tolerance: f64,
    /// The most Newton steps before a problem ends with [`Status::IterationLimit`](crate::Status). Default 600.
    pub max_iterations: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { tolerance: 1e-11, max_iterations: 600 }
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
