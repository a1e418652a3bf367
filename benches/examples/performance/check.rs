//! A gradient check beside PyTorch's own.

use crate::measured::{quartiles, seconds};
use lossproof_benches::batch;
use lossproof_gpt2::{Config, probe_initial, reference};
use lossproof_numerics::ErrorModel;
use lossproof_spec::{Dtype, GlobalBatch};
use lossproof_subject::Device;
use lossproof_verify::{Directions, Verification, verify};
use std::{
    error::Error,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

/// PyTorch's check of a model of the same sizes on the same batch: one for each line that it is sent.
const GRADCHECK: &str = include_str!("gradcheck.py");

/// Checks of each, by turns.
const TURNS: u64 = 7;

/// What it costs to hold one implementation of gpt2-nano to finite differences under six reductions, and to
/// the calculus.
pub(crate) fn section() -> Result<String, Box<dyn Error>> {
    let config = Config::Nano;
    let batch = batch(config, 8, 24)?;
    let mut gradcheck = Gradcheck::begin();
    let (mut times, mut theirs) = (Vec::new(), Vec::new());
    for seed in 0..TURNS {
        times.push(checked(config, &batch, seed)?);
        if let Some(gradcheck) = &mut gradcheck {
            theirs.push(gradcheck.once()?);
        }
    }
    let ratios = times.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>();
    let ours = quartiles(times)[1];
    let beside = if ratios.is_empty() {
        "`torch.autograd.gradcheck` was not measured: there is no Python with PyTorch here \
         (`cargo xtask python` makes one)"
            .to_owned()
    } else {
        let ([low, ratio, high], theirs) = (quartiles(ratios), quartiles(theirs)[1]);
        format!(
            "**{ratio:.2}** times ({low:.2}–{high:.2}) the {theirs:.2} s of\n\
             `torch.autograd.gradcheck(fast_mode=True)` for one reduction and one projection of a model of the \
             same sizes on the same batch,\nby turns in the same run"
        )
    };
    Ok(format!(
        "\n## A gradient check\n\ngpt2-nano (35 744 parameters), f64, 8 × 24 tokens: two directions \
         through all tensors, fourth order, taken per token and contracted with\nthe weights of six reductions, and the six gradients \
         held to the calculus: {ours:.2} s, {beside}.\n"
    ))
}

/// Seconds that a check of the reference takes.
fn checked(config: Config, batch: &GlobalBatch, seed: u64) -> Result<f64, Box<dyn Error>> {
    let shape = config.shape();
    // Both sides are the reference, so that half of the time is that of one.
    let [mut one, mut other] = [(), ()].map(|()| reference(config, Dtype::F64, Device::Cpu));
    let verification = Verification {
        trainer: one.as_deref_mut().map_err(|error| error.to_string())?,
        reference: other.as_deref_mut().map_err(|error| error.to_string())?,
        third: None,
        parameters: &probe_initial(shape, seed),
        batch,
        model: ErrorModel::new(shape.vocabulary, shape.width, shape.heads, shape.layers, batch),
        directions: Directions::Random(1),
        seed,
    };
    Ok(seconds(|| verify(verification, &mut |_, _, _| {}))?.0 / 2.0)
}

/// A Python that checks gradients when it is told to.
struct Gradcheck {
    python: Child,
    answers: BufReader<ChildStdout>,
}

impl Gradcheck {
    /// The Python of this repository, if it was made, or else the one on the path. `None` where it has no PyTorch.
    fn begin() -> Option<Self> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.python/bin/python");
        let python = if own.exists() { own } else { PathBuf::from("python3") };
        let mut command = Command::new(python);
        // The libtorch of this process is another one than PyTorch's.
        command.args(["-c", GRADCHECK]).env_remove("LD_LIBRARY_PATH");
        let mut python = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let answers = BufReader::new(python.stdout.take()?);
        let mut begun = Self { python, answers };
        // The first one warms up.
        begun.once().is_ok().then_some(begun)
    }

    /// Seconds that one check takes.
    fn once(&mut self) -> Result<f64, Box<dyn Error>> {
        let requests = self.python.stdin.as_mut().ok_or("the check in Python takes no requests")?;
        writeln!(requests)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().parse()?)
    }
}

impl Drop for Gradcheck {
    fn drop(&mut self) {
        // At the end of its requests it ends.
        drop(self.python.stdin.take());
        let _ = self.python.wait();
    }
}
