//! Counting instructions, and comparing the counts with a baseline: what `tenpin-instructions` is made of.

pub mod baseline;
pub mod count;
