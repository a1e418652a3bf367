//! One step, forward and backward, of the reference and of libtorch: gpt2-nano in f64 and gpt2-small in f32.

use criterion::{Criterion, criterion_group, criterion_main};
use lossproof_benches::{batch, both};
use lossproof_gpt2::Config;
use lossproof_spec::Dtype;
use lossproof_subject::Discard;
use std::time::Duration;

fn step(criterion: &mut Criterion, config: Config, dtype: Dtype, sequences: u32, length: u32) {
    let batch = batch(config, sequences, length).expect("sizes above zero");
    let mut group = criterion.benchmark_group(format!("{config} {dtype} {sequences}x{length}"));
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for (name, mut subject) in both(config, dtype).expect("both implementations") {
        group.bench_function(name, |bencher| {
            bencher.iter(|| subject.accumulate(&batch, &mut Discard).expect("a step"));
        });
    }
    group.finish();
}

fn steps(criterion: &mut Criterion) {
    step(criterion, Config::Nano, Dtype::F64, 8, 24);
    step(criterion, Config::Small, Dtype::F32, 4, 64);
}

criterion_group!(benches, steps);
criterion_main!(benches);
