//! scratch
use lossproof::*;
use lossproof_spec::*;
use lossproof_torch::*;
use std::time::Instant;
struct Null;
impl GradientSink for Null {
    fn receive(&mut self, _: &str, _: &[usize], v: GradientView<'_>) -> Result<(), SinkError> {
        std::hint::black_box(v.len());
        Ok(())
    }
}
fn rss() -> String {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    s.lines().filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS")).collect::<Vec<_>>().join(" ")
}
fn seq(i: u32, l: u32) -> Sequence {
    let t: Vec<u32> = (0..l).map(|p| (i * 17 + p * (5 + i)) % 251).collect();
    let y = t.iter().map(|&x| i64::from(x)).collect();
    Sequence::new(t, y).unwrap()
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let dtype = if a[2] == "f32" { Dtype::F32 } else { Dtype::F64 };
    let c = Gpt2Config::named(&a[1]).unwrap();
    if let Some(t) = a.get(3) {
        let t: i32 = t.parse().unwrap();
        if t > 0 {
            tch::set_num_threads(t);
        }
    }
    let t = Instant::now();
    let mut s = libtorch(&c, dtype, Device::Cpu).unwrap();
    println!("new {:?} {}", t.elapsed(), rss());
    let small = a[1] == "gpt2-small";
    let (n, l, reps) = if small { (4, 64, 3) } else { (10, 24, 200) };
    let ranks: usize = a.get(4).map_or(1, |x| x.parse().unwrap());
    let seqs: Vec<_> = (0..n).map(|i| seq(i, l)).collect();
    let b = GlobalBatch::new(
        seqs.chunks(seqs.len() / ranks)
            .map(|r| Rank::new(vec![MicroBatch::new(r.to_vec()).unwrap()]).unwrap())
            .collect(),
    )
    .unwrap();
    s.configure(&LossSpec::token_mean()).unwrap();
    let t = Instant::now();
    s.accumulate(&b, &mut Null).unwrap();
    println!("first accumulate {:?} {}", t.elapsed(), rss());
    let t = Instant::now();
    for _ in 0..reps {
        s.accumulate(&b, &mut Null).unwrap();
    }
    println!("accumulate {:?} {}", t.elapsed() / reps, rss());
    let t = Instant::now();
    for _ in 0..reps {
        s.token_losses().unwrap().evaluate(&b).unwrap();
    }
    println!("evaluate {:?} {}", t.elapsed() / reps, rss());
}
