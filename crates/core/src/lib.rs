//! The pure part of threadtap: everything it knows about LLM APIs. Nothing here uses sockets,
//! files, clocks or threads. Functions take values and return values.
//!
//! The modules in reading order. *Vocabulary*, plain data: [`time`], [`budget`], [`exchange`],
//! [`attribution`], [`message`], [`observation`], [`interaction`], [`event`], [`payload`],
//! [`printable`], [`settings`].
//!
//! *From bytes to records*: [`sse`] and [`content`] read copies of bodies. [`dialect`] interprets
//! them for each API. [`correlator`] pairs them into records. [`session`] and [`user`] assign
//! records to sessions and users. [`sink`] encodes them for analytics backends.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests read corpora, measure time and share counters"
    )
)]

pub mod attribution;
pub mod budget;
pub mod content;
pub mod correlator;
pub mod dialect;
pub mod event;
pub mod exchange;
pub mod interaction;
pub mod message;
pub mod observation;
pub mod payload;
pub mod printable;
pub mod session;
pub mod settings;
pub mod sink;
pub mod sse;
pub mod time;
pub mod user;
