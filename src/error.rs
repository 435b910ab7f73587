//! The one error type. A problem that has no solution is not an error but a [`Status`](crate::Status).

/// What went wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An array has the wrong length.
    #[error("{what} has {got} elements where {expected} are needed")]
    Shape {
        /// Which array.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        got: usize,
    },
    /// A parameter has a value that cannot be used.
    #[error("{what}: {problem}")]
    Value {
        /// Which parameter.
        what: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// An input that the constraints need was not given.
    #[error("the constraints need {what}; give them with {hint}")]
    Missing {
        /// Which input.
        what: &'static str,
        /// The call that gives it.
        hint: &'static str,
    },
    /// The batch is larger than the plan.
    #[error("the batch has {got} {what}, but the projector was planned for {planned}; plan it with larger capacities")]
    Capacity {
        /// What there is too much of.
        what: &'static str,
        /// How much was planned for.
        planned: usize,
        /// How much the batch has.
        got: usize,
    },
    /// More memory than there is.
    #[error(
        "a plan for {predictions} predictions in {problems} problems needs more memory than can be had; plan smaller batches"
    )]
    Memory {
        /// Predictions planned for.
        predictions: usize,
        /// Problems planned for.
        problems: usize,
    },
    /// More cells than a device can take.
    #[error(
        "{cells} cells (groups of every sensitive feature, times strata) are more than the {limit} that this device takes; \
         merge rare groups, split the batch by stratum into problems, or constrain fewer features at once"
    )]
    TooManyCells {
        /// Cells asked for.
        cells: usize,
        /// The limit.
        limit: usize,
    },
    /// A device that cannot be used, or that stopped working.
    #[error("{device}: {problem}")]
    Device {
        /// Which device, as `fairlayer devices` lists it.
        device: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Something that a device does not do.
    #[error("{device} does not take {what}; {instead}")]
    Unsupported {
        /// Which device.
        device: &'static str,
        /// What was asked for.
        what: String,
        /// What to use.
        instead: &'static str,
    },
    /// What torch said.
    #[cfg(feature = "tch")]
    #[error("torch: {problem}")]
    Torch {
        /// Its words.
        problem: String,
    },
    /// A checkpoint of a training that cannot be used or written.
    #[cfg(feature = "tch")]
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A solution or gradients object that belongs to another plan.
    #[error("{what} was made for another plan; make it with this projector's `{make}`")]
    Foreign {
        /// Which object.
        what: &'static str,
        /// The method that makes a fitting one.
        make: &'static str,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn value(what: &'static str, problem: impl Into<String>) -> Self {
        Self::Value { what, problem: problem.into() }
    }
}
