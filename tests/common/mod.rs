//! What test files share.
#![allow(dead_code, reason = "every test binary uses its own part")]

pub mod kkt;
pub mod problems;
