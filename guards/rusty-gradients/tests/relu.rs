//! Why `lossproof.toml` calls the failure of `loss-slope` a false alarm: along the line on which the law
//! fails, the release's gradient adds up to the difference of its losses, once it is added up finely enough.
//! The model has a rectifier, whose gradient jumps, and the law's few points take it to be smooth.

use lossproof::cases::CaseFile;
use lossproof::{Collect, Subject};
use lossproof_numerics::rademacher;
use lossproof_rusty_gradients::{pico, rusty_gradients};

/// The parameter along whose signs the kept case fails, and how far the law goes to either side.
const PARAMETER: &str = "blocks.1.attention.w_v.bias";
const REACH: f64 = 0.25;

#[test]
fn the_gradient_adds_up_to_the_loss_where_the_law_says_that_it_does_not() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/cases/loss-slope");
    let path = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let case = CaseFile::read(&path).unwrap().case;
    let mut subject = rusty_gradients(pico()).unwrap();
    let parameters = case.parameters(&subject.parameters());
    subject.parameter_loading().unwrap().load(&parameters).unwrap();
    let point = parameters[PARAMETER].to_f64();
    let signs = rademacher(case.seed, 1, &point);
    let at = |subject: &mut dyn Subject, step: f64| {
        let moved: Vec<f64> = point.iter().zip(&signs).map(|(x, sign)| x + step * sign).collect();
        subject.parameter_loading().unwrap().set(PARAMETER, &moved).unwrap();
        let mut gradient = Collect::default();
        let loss = subject.accumulate(&case.batch, &mut gradient).unwrap().loss;
        let gradient = gradient.into_tensors()[PARAMETER].to_f64();
        (loss, gradient.iter().zip(&signs).map(|(slope, sign)| slope * sign).sum::<f64>())
    };
    let difference = (at(&mut *subject, REACH).0 - at(&mut *subject, -REACH).0) / (2.0 * REACH);
    let mut mean = |intervals: u32| {
        let width = 2.0 * REACH / f64::from(intervals);
        let middle = |interval: u32| (f64::from(interval) + 0.5) * width - REACH;
        (0..intervals).map(|interval| at(&mut *subject, middle(interval)).1).sum::<f64>()
            / f64::from(intervals)
    };
    let off = |mean: f64| (mean / difference - 1.0).abs();
    let (coarse, fine) = (off(mean(8)), off(mean(2048)));
    assert!(fine < 1e-4 && fine < coarse / 10.0, "off by {coarse:.1e} in 8 intervals, {fine:.1e} in 2048");
}
