//! Whatever passes, observers and the correlator behind them do not panic, and their books balance.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| threadtap_core::correlator::assert_invariants(data));

// Bytes seldom turn one exchange into another that means something: half of the changes are made of whole ones.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut exchanges: Vec<Vec<u8>> = data[..size].split(|byte| *byte == 0xFF).map(<[u8]>::to_vec).collect();
    let (at, other) = ((seed >> 8) as usize % exchanges.len(), (seed >> 16) as usize % exchanges.len());
    match seed % 10 {
        0 => exchanges.swap(at, other),
        1 => exchanges.insert(other, exchanges[at].clone()),
        2 if exchanges.len() > 1 => drop(exchanges.remove(at)),
        3 => exchanges[at] = graft(&exchanges[at], &exchanges[other], (seed >> 24) as usize),
        // The bytes that steer.
        4 if size > 0 => {
            let place = (seed >> 24) as usize % 4;
            let Some(byte) = exchanges[at].get_mut(place).filter(|byte| **byte < 0xFE) else {
                return fuzzer_mutate(data, size, max_size);
            };
            *byte = (seed >> 12) as u8 % 0xFE;
        }
        _ => return fuzzer_mutate(data, size, max_size),
    }
    let changed = exchanges.join(&0xFF);
    let size = changed.len().min(max_size);
    data[..size].copy_from_slice(&changed[..size]);
    size
});

/// An exchange with one field of another.
fn graft(exchange: &[u8], other: &[u8], field: usize) -> Vec<u8> {
    let mut fields: Vec<&[u8]> = exchange.split(|byte| *byte == 0xFE).collect();
    let place = field % fields.len();
    if let Some(grafted) = other.split(|byte| *byte == 0xFE).nth(place) {
        fields[place] = grafted;
    }
    fields.join(&0xFE)
}
