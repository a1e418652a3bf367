//! `lossproof serve`: one of our own trainers behind the protocol that adapters speak.

use crate::{
    exit::Exit,
    subjects::{self, Arithmetic},
    trainer,
};
use lossproof_gpt2::Config;
use lossproof_loop::LoopSubject;
use lossproof_process::serve;
use lossproof_spec::LossSpec;
use lossproof_subject::{Device, Subject};
use miette::IntoDiagnostic;
use std::io::{self, BufReader, BufWriter};

/// Answer as an adapter does, for one of our own trainers.
///
/// What is asked comes in on standard input, and answers go to standard output, as docs/adapters.md
/// describes. It is for trying the other end: `lossproof laws --adapter "lossproof serve"`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The trainer.
    #[arg(long, value_name = "NAME", default_value = "reference")]
    subject: Served,
    /// Its model: gpt2-pico, gpt2-nano, gpt2-small, gpt2-medium, gpt2-large or gpt2-xl.
    #[arg(long, value_name = "NAME", default_value = "gpt2-pico")]
    config: Config,
    /// Arithmetic.
    #[arg(long, default_value = "f64")]
    dtype: Arithmetic,
    /// Inject this known bug into it, by its id in docs/bugs.md.
    #[arg(long, value_name = "ID", conflicts_with = "training")]
    fault: Option<String>,
    /// Put it under the training loop, with the per-token mean as its one claim.
    #[arg(long)]
    training: bool,
}

/// One of our own trainers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Served {
    /// The reference, on dfdx.
    Reference,
    /// The independent implementation, on libtorch.
    Libtorch,
}

/// Answers until nothing more is asked.
///
/// # Errors
/// When an argument makes no sense, or what comes in is no question.
pub(crate) fn run(args: &Args) -> miette::Result<Exit> {
    let mut subject = args.make()?;
    let (input, output) = (BufReader::new(io::stdin().lock()), BufWriter::new(io::stdout().lock()));
    serve(&mut *subject, input, output).into_diagnostic()?;
    Ok(Exit::Conforms)
}

impl Args {
    fn make(&self) -> miette::Result<Box<dyn Subject>> {
        if self.training {
            let initial = subjects::initial(self.config, 0);
            let trainer = match self.subject {
                Served::Reference => {
                    subjects::ours_for_a_loop(self.config, self.dtype.of_the_reference()?, initial)?
                }
                Served::Libtorch => subjects::theirs_for_a_loop(self.config, self.dtype.dtype(), &*initial)?,
            };
            return Ok(Box::new(LoopSubject::new(trainer, LossSpec::token_mean()).into_diagnostic()?));
        }
        let honest = match self.subject {
            Served::Reference => subjects::ours(self.config, self.dtype.of_the_reference()?, Device::Cpu)?,
            Served::Libtorch => subjects::theirs_in(self.config, self.dtype, Device::Cpu)?,
        };
        let Some(id) = &self.fault else { return Ok(honest) };
        Ok(trainer::fault(id)?.inject(honest))
    }
}
