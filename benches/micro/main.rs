//! Times of the steps of capture, each for one streamed run: `cargo bench --bench micro`. Instruction counts are held to by
//! `tests/instructions.rs`.

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
