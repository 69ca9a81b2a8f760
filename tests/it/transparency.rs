//! What must not change on the way.

mod bodies;
mod ends;
mod errors;
mod heads;
mod limits;
mod refusals;
mod streams;
mod upgrade;
