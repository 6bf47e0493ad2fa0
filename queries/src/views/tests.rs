//! Views against DataFusion's own answers, and the statements that are refused.

mod definitions;
mod exactly;
mod failures;
mod gaps;
mod generator;
mod oracle;
mod sketches;
mod statements;
mod stream;
