//! Sketches against what they summarise: errors, laws of merging, and encodings that anybody may have written.

mod distinct;
mod laws;
mod quantiles;
mod top;
