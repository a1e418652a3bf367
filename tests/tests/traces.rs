//! experiment
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use lossproof::trace::{Plan, Segment, Trace, record};
use lossproof::*;
use lossproof_gpt2::{Config, gpt2_initial};
use lossproof_spec::LossSpec;
use lossproof_tests::*;

fn plan() -> Plan {
    let e = |n: &str, d: f64| std::env::var(n).ok().and_then(|v| v.parse().ok()).unwrap_or(d);
    let adam = Adam { beta_1: 0.9, beta_2: 0.95, epsilon: 1e-8, epsilon_placement: EpsilonPlacement::AfterCorrection, weight_decay: 0.1, decayed: Decayed::Matrices };
    let sgd = Optimizer::sgd(e("LR1", 0.3));
    let momentum = Optimizer { rule: Rule::Sgd { momentum: 0.9, weight_decay: 0.0 }, clip: Some(Clip { max_norm: e("CLIP", 1.0), epsilon: 1e-6 }), ..Optimizer::sgd(e("LR2", 0.1)) };
    let adamw = Optimizer { rule: Rule::AdamW(adam), warm_up: 5, ..Optimizer::sgd(e("LR3", 3e-3)) };
    let segments = [sgd, momentum, adamw].map(|optimizer| Segment { optimizer, steps: 20 }).to_vec();
    Plan { config: "gpt2-nano".into(), seed: 0, loss: LossSpec::token_mean(), segments }
}

fn batches() -> impl Iterator<Item = lossproof_spec::GlobalBatch> {
    let layout = |i: usize| -> &'static [&'static [usize]] { match i / 20 { 0 => &[&[4]], 1 => &[&[2, 3]], _ => &[&[2, 1, 2], &[1, 2]] } };
    text_batches(layout, 64, 0)
}

fn run(mut s: Door) -> Trace {
    s.parameter_loading().unwrap().load(&gpt2_initial(Config::Nano.shape(), 0)).unwrap();
    let t = std::time::Instant::now();
    let r = record(&mut *s, &plan(), batches()).unwrap();
    eprintln!("{:?}", t.elapsed());
    r
}
fn rel(a: f64, b: f64) -> f64 { (a - b).abs() / b.abs() }
#[test]
fn experiment() {
    let r = run(ours(Config::Nano, Dtype::F64));
    let t = run(theirs(Config::Nano, Dtype::F64));
    let h = run(Box::new(ByHand::new(ours(Config::Nano, Dtype::F64), Mistake::Nothing)));
    let r32 = run(ours(Config::Nano, Dtype::F32));
    let t32 = run(theirs(Config::Nano, Dtype::F32));
    let n: Vec<_> = (0..3).map(|seed| run(Box::new(ByHand::new(ours(Config::Nano, Dtype::F64), Mistake::Rounded { relative: 1e-9, seed })))).collect();
    let s = run(Box::new(ByHand::new(ours(Config::Nano, Dtype::F64), Mistake::ScaledGradients(1.0 + 1e-9))));
    println!("step loss norm clip | loss: t h t32 r32 n0 n1 n2 s | norm: ... | worst tensor ...");
    let names = &r.header().parameters;
    for k in 0..60 {
        let q = |f: &dyn Fn(&trace::Step) -> f64| {
            let b = f(&r.steps()[k]);
            let e = |o: &Trace, u: f64| format!("{:8.1e}", rel(f(&o.steps()[k]), b) / u);
            let mut v = vec![e(&t, 1.), e(&h, 1.), e(&r32, 1.), e(&t32, 1.)];
            let bh = f(&h.steps()[k]);
            v.extend(n.iter().chain([&s]).map(|o| format!("{:8.1e}", rel(f(&o.steps()[k]), bh) / 1e-9)));
            v.join("")
        };
        let st = &r.steps()[k];
        println!("{:2} {:.4} {:.3} {:.3} lr {:.4} tok {:?}| {} | {}", k + 1, st.loss, st.grad_norm, st.clip_factor, st.learning_rate, st.supervised_tokens, q(&|s| s.loss), q(&|s| s.grad_norm));
        let worst = |o: &Trace, b: &Trace, u: f64| { let (i, e) = (0..names.len()).map(|i| (i, rel(o.steps()[k].tensor_norms[i], b.steps()[k].tensor_norms[i]))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap(); format!("{:8.1e} {}", e / u, names[i]) };
        println!("     {} | {} | {} | {} | {} | {}", worst(&t, &r, 1.), worst(&h, &r, 1.), worst(&r32, &r, 1.), worst(&t32, &r, 1.), worst(&n[0], &h, 1e-9), worst(&s, &h, 1e-9));
    }
    let small: Vec<_> = names.iter().enumerate().map(|(i, n)| (n.clone(), r.steps().iter().map(|s| s.tensor_norms[i] / s.grad_norm).fold(f64::MAX, f64::min))).collect();
    println!("{small:?}");
}
