//! What must not change on the way.

mod bodies;
mod ends;
mod errors;
mod heads;
mod streams;
mod upgrade;
