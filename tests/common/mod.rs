//! What test files share.
#![allow(dead_code, reason = "every test binary uses its own part")]

pub mod clarabel;
pub mod devices;
#[cfg(feature = "cuda")]
pub mod emulation;
pub mod kkt;
pub mod planted;
pub mod problems;
pub mod quadratic;
pub mod rows;
pub mod run;
