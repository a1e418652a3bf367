//! Repository automation. `cargo xtask help` lists the tasks.

mod api;
mod cuda;
mod failure;
mod fuzz;
mod guard;
mod libtorch;
mod mpi;
mod package;
mod plug_in;
mod product;
mod provision;
mod python;
mod rust;
mod screenshots;
mod tidy;
mod weigh;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Provision libtorch under .libtorch/, or check the one LIBTORCH names.
    Setup,
    /// Set up, build, and run `lossproof verify` with the given arguments.
    #[command(disable_help_flag = true)]
    Verify(Forwarded),
    /// Set up, then run the whole test suite, or `cargo test` with the given arguments.
    #[command(disable_help_flag = true)]
    Test(Forwarded),
    /// Build the product with CUDA into dist/cuda/, on a machine without a GPU for one with.
    Cuda {
        /// Compute capability of the oldest GPU it is to run on, such as 9.0 or 90.
        #[arg(long, value_name = "CAP", default_value = "90")]
        compute_cap: cuda::ComputeCap,
    },
    /// Hold a released trainer under guards/ to the laws: its folder's name, then arguments for `cargo test`.
    Guard(Forwarded),
    /// Build the command with ranks as processes, and test it on one to four; skipped where MPI is not installed.
    Mpi(mpi::Options),
    /// Build the wheel of the adapters in Python, and test it against the judge; skipped where that cannot be.
    Python,
    /// Show HTML files in Chromium and keep what it looks like under target/screenshots/; skipped without Chromium.
    Screenshots {
        /// The HTML files.
        #[arg(required = true, value_name = "FILE")]
        pages: Vec<PathBuf>,
    },
    /// Write what others can name of the libraries, into docs/api/. `tidy` holds the lists.
    Api,
    /// Feed every reader of foreign bytes with changed inputs, and renew the table in docs/fuzzing.md.
    Fuzz(fuzz::Options),
    /// Check dependency arrows, circles between modules, manifests and sources.
    Tidy,
    /// Count and build what a stranger's package gets with `lossproof-subject`, and with `lossproof`.
    Weigh,
    /// Follow docs/plugging-in.md in a package outside the workspace, and compare what it shows.
    PlugIn {
        /// Renew the files of examples/plugging-in from the page.
        #[arg(long)]
        write: bool,
    },
    /// Make a package of each crate that is published, and look whether what it needs is inside.
    Package {
        /// Also build those without a framework from their packages alone.
        #[arg(long)]
        verify: bool,
    },
    /// Load one library and exit: the child process of the libtorch smoke test.
    #[command(name = libtorch::smoke::SUBCOMMAND, hide = true)]
    Dlopen {
        /// Path of the library.
        library: PathBuf,
    },
}

/// Arguments for the command a task runs.
#[derive(clap::Args)]
struct Forwarded {
    /// Passed on as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    let root = &workspace_root();
    let result = match Xtask::parse().task {
        Task::Setup => libtorch::setup(root).map(|()| ExitCode::SUCCESS),
        Task::Verify(_) => libtorch::setup(root).and_then(|()| product::verify(root, &forwarded())),
        Task::Test(_) => libtorch::setup(root).and_then(|()| test(root, &forwarded())),
        Task::Cuda { compute_cap } => cuda::cuda(root, compute_cap).map(|()| ExitCode::SUCCESS),
        Task::Guard(_) => guard::guard(root, &forwarded()),
        Task::Mpi(options) => libtorch::setup(root).and_then(|()| mpi::mpi(root, &options)),
        Task::Python => libtorch::setup(root).and_then(|()| python::python(root)),
        Task::Screenshots { pages } => screenshots::screenshots(root, &pages).map(|()| ExitCode::SUCCESS),
        Task::Api => api::write(root).map(|()| ExitCode::SUCCESS),
        Task::Fuzz(options) => fuzz::fuzz(root, &options),
        Task::Tidy => tidy::tidy(root).map(|()| ExitCode::SUCCESS),
        Task::Weigh => weigh::weigh(root).map(|()| ExitCode::SUCCESS),
        Task::PlugIn { write } => plug_in::plug_in(root, write).map(|()| ExitCode::SUCCESS),
        Task::Package { verify } => package::package(root, verify).map(|()| ExitCode::SUCCESS),
        Task::Dlopen { library } => Ok(libtorch::smoke::child(&library)),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        ExitCode::FAILURE
    })
}

/// The suite, whole with ranks as processes where they can be had, or what `args` select of it.
fn test(root: &Path, args: &[OsString]) -> Result<ExitCode, Failure> {
    let feature = if args.is_empty() { mpi::feature(root)? } else { None };
    product::test(root, args, feature)
}

/// What follows the task's name. Not taken from clap, which swallows a leading `--` that `cargo test` must see.
fn forwarded() -> Vec<OsString> {
    env::args_os().skip(2).collect()
}

/// The folder of the workspace that cargo runs this task in. Not the one it was built in: checkouts that share a
/// target directory share the program.
fn workspace_root() -> PathBuf {
    let own =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    own.parent().expect("invariant: xtask/ lies in the workspace root").to_owned()
}
