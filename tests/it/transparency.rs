//! What must not change on the way.

mod bodies;
mod ends;
mod errors;
mod heads;
mod limits;
mod streams;
mod upgrade;
