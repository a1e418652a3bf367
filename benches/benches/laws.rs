//! The cost of each law on one implementation: sixteen random cases of gpt2-pico in f64.

use criterion::{Criterion, criterion_group, criterion_main};
use lossproof_benches::both;
use lossproof_gpt2::Config;
use lossproof_laws::{Campaign, LAWS};
use lossproof_spec::Dtype;
use std::time::Duration;

fn laws(criterion: &mut Criterion) {
    let campaign = Campaign { cases: 16, ..Campaign::default() };
    for (name, mut subject) in both(Config::Pico, Dtype::F64).expect("both implementations") {
        let mut group = criterion.benchmark_group(format!("16 cases of gpt2-pico f64, {name}"));
        group.sample_size(10).measurement_time(Duration::from_secs(2));
        for law in LAWS {
            group.bench_function(law.id(), |bencher| {
                bencher.iter(|| campaign.run(law, &mut *subject).expect("no case files are read"));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, laws);
criterion_main!(benches);
