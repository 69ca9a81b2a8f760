//! Times of the steps of capture, each for one streamed run, and of small exchanges: `cargo bench --bench micro`. Instruction
//! counts are held to by `tests/instructions.rs`.

mod work;

use divan::Bencher;
use work::Work;

fn main() {
    divan::main();
}

#[divan::bench]
fn sse(bencher: Bencher<'_, '_>) {
    let work = Work::new();
    bencher.bench_local(|| work.sse());
}

#[divan::bench]
fn dialect(bencher: Bencher<'_, '_>) {
    let work = Work::new();
    bencher.bench_local(|| work.dialect());
}

#[divan::bench]
fn correlator(bencher: Bencher<'_, '_>) {
    let work = Work::new();
    bencher.bench_local(|| work.correlator());
}

#[divan::bench]
fn sink(bencher: Bencher<'_, '_>) {
    let work = Work::new();
    bencher.bench_local(|| work.sink());
}

#[divan::bench]
fn tee(bencher: Bencher<'_, '_>) {
    let work = Work::new();
    bencher.bench_local(|| work.tee());
}

#[divan::bench]
fn message(bencher: Bencher<'_, '_>) {
    let work = Work::new();
    bencher.bench_local(|| work.message());
}

#[divan::bench]
fn polls(bencher: Bencher<'_, '_>) {
    let work = Work::new();
    bencher.bench_local(|| work.polls());
}

#[divan::bench]
fn polled_turn(bencher: Bencher<'_, '_>) {
    let work = Work::new();
    bencher.bench_local(|| work.polled_turn());
}

#[divan::bench]
fn store(bencher: Bencher<'_, '_>) {
    let work = Work::new();
    bencher.bench_local(|| work.store());
}
