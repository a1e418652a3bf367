//! Ranks as processes: the command under `mpirun`, held to itself in one process, and ranks that die, hang or are of
//! something else. `cargo xtask mpi` runs it where there is an MPI.
#![cfg(feature = "mpi")]

use lossproof_gpt2::Config;
use lossproof_mpi::Engine as _;
use lossproof_numerics::ErrorModel;
use lossproof_spec::{Dtype, GlobalBatch, MicroBatch, Rank, Sequence};
use lossproof_trace::Tolerance;
use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

const LOSSPROOF: &str = env!("CARGO_BIN_EXE_lossproof");

/// `mpirun` as a machine without a scheduler takes it: also as root, on fewer cores than processes, in a container that
/// does not let processes read each other's memory, and with one thread in each.
fn mpirun() -> Command {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["--oversubscribe", "--bind-to", "none"]);
    let settings = [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),
        ("OMPI_MCA_mpi_yield_when_idle", "1"),
        ("RAYON_NUM_THREADS", "1"),
        ("OMP_NUM_THREADS", "1"),
        // It gives each process a terminal.
        ("NO_COLOR", "1"),
    ];
    mpirun.envs(settings).stdin(Stdio::null());
    mpirun
}

fn on(processes: usize, args: &[&str]) -> Output {
    let output = mpirun().arg("-n").arg(processes.to_string()).arg(LOSSPROOF).args(args).output();
    output.expect("mpirun is installed")
}

fn alone(args: &[&str]) -> Output {
    Command::new(LOSSPROOF).args(args).env("RAYON_NUM_THREADS", "1").output().expect("it is built")
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A short run in which nothing divides, with dropout, clipping and validations between updates.
const RUN: [&str; 22] = [
    "train",
    "--config",
    "gpt2-pico",
    "--text-bytes",
    "1780",
    "--block",
    "12",
    "--remainder",
    "kept",
    "--batch",
    "3",
    "--accumulate",
    "2",
    "--epochs",
    "2",
    "--dropout",
    "0.1",
    "--clip",
    "0.5",
    "--evaluate-every",
    "3",
    "--in-rank-order",
];

/// The bytes of every file below a folder, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else if name != "lock" {
            found.push((name, fs::read(&path).expect("it can be read")));
        }
    }
    found.sort();
    found
}

/// The arguments of a run that keeps checkpoints and a trace in a folder of its own.
fn run_into(folder: &Path, trainer: &str, ranks: usize) -> Vec<String> {
    fs::create_dir_all(folder).expect("a folder");
    let mut args: Vec<String> = RUN.map(str::to_owned).to_vec();
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let own = ["--trainer", trainer, "--checkpoints", &path("kept"), "--trace", &path("trace.jsonl")];
    args.extend(own.map(str::to_owned));
    args.extend(["--ranks".to_owned(), ranks.to_string()]);
    args
}

fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// A run whose ranks are processes prints, traces and keeps what it does in one process, byte for byte.
#[track_caller]
fn same_bytes(trainer: &str, processes: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let [here, there] = ["here", "there"].map(|name| folder.path().join(name));
    let one = succeeded(&alone(&borrowed(&run_into(&here, trainer, processes))));
    let many = succeeded(&on(processes, &borrowed(&run_into(&there, trainer, processes))));
    assert_eq!(one, many);
    let (here, there) = (files(&here), files(&there));
    assert!(here.len() > 4);
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&here), names(&there));
    for ((name, here), (_, there)) in here.iter().zip(&there) {
        assert!(here == there, "{name} differs on {processes} processes");
    }
}

#[test]
fn a_run_on_processes_has_the_bytes_of_one() {
    for processes in 1..=4 {
        same_bytes("reference", processes);
    }
    same_bytes("libtorch", 3);
}

/// How far another order of summation may carry a trace of [`RUN`]: the model of docs/tolerances.md, §11, for
/// updates of as many sequences and tokens as its largest have.
fn rounding(ranks: usize) -> Tolerance {
    let shape = Config::Pico.shape();
    let sequence = Sequence::new(vec![0; 12], vec![0; 12]).expect("a sequence");
    let micro_batch = MicroBatch::new(vec![sequence; 3]).expect("a micro-batch");
    let rank = Rank::new(vec![micro_batch; 2]).expect("a rank");
    let update = GlobalBatch::new(vec![rank; ranks]).expect("a batch");
    let model = ErrorModel::new(shape.vocabulary, shape.width, shape.heads, shape.layers, &update);
    Tolerance::rounding(&model, Dtype::F64)
}

/// Numbers of every line of a trace but the first, in order.
fn numbers(trace: &Path) -> Vec<Vec<f64>> {
    fn collect(value: &serde_json::Value, into: &mut Vec<f64>) {
        match value {
            serde_json::Value::Number(number) => into.extend(number.as_f64()),
            serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
            serde_json::Value::Object(fields) => fields.values().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let text = fs::read_to_string(trace).expect("a trace");
    let line = |line: &str| {
        let mut found = Vec::new();
        collect(&serde_json::from_str(line).expect("a line of JSON"), &mut found);
        found
    };
    text.lines().skip(1).map(line).collect()
}

/// The all-reduce of MPI adds two gradients as anybody does, and more of them in an order of its own: then a run moves
/// as far as another order of summation moves it.
#[test]
fn the_order_of_the_engine_moves_a_run_by_roundings() {
    let folder = tempfile::tempdir().expect("a folder");
    for processes in 2..=4 {
        let [ordered, engine] =
            ["ordered", "engine"].map(|name| folder.path().join(format!("{name}{processes}")));
        succeeded(&on(processes, &borrowed(&run_into(&ordered, "reference", processes))));
        let mut args = run_into(&engine, "reference", processes);
        args.retain(|arg| arg != "--in-rank-order");
        succeeded(&on(processes, &borrowed(&args)));
        let [ordered, engine] = [ordered, engine].map(|place| numbers(&place.join("trace.jsonl")));
        assert!(ordered.len() == engine.len() && ordered.concat().len() > 50);
        let tolerance = rounding(processes);
        // A rank that is left out moves a gradient by a quarter.
        assert!(tolerance.norm(ordered.len()) < 1e-6);
        // Before a line there are at most as many updates as lines.
        for ((ordered, engine), updates) in ordered.iter().zip(&engine).zip(1..) {
            assert_eq!(ordered.len(), engine.len());
            let bound =
                if processes == 2 { 0.0 } else { tolerance.norm(updates).max(tolerance.loss(updates)) };
            for (a, b) in ordered.iter().zip(engine) {
                assert!((a - b).abs() <= bound * a.abs(), "{a} and {b} on {processes} processes");
            }
        }
    }
}

/// Laws of ranks, whose groups are 5 and 8, and of a training, 9 and 10: so many pass at least.
#[track_caller]
fn laws_hold(processes: usize, least: usize, more: &[&str]) {
    let mut args = vec!["laws", "--ranks-as-processes"];
    args.extend(more);
    let output = on(processes, &args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // 3: some laws need what a trainer on ranks does not offer, or more ranks than there are.
    assert!(
        matches!(output.status.code(), Some(0 | 3)),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains(&format!("on {processes} ranks")), "{text}");
    // One process has no ranks to tell apart.
    let passed = text.lines().filter(|line| line.trim_end().ends_with("pass")).count();
    assert!(passed >= if processes == 1 { 1 } else { least }, "{passed} laws pass on {processes}: {text}");
}

#[test]
fn laws_hold_on_one_to_four_processes() {
    for processes in 1..=4 {
        let laws = ["--law", "rank-invariance", "--law", "rank-average", "--law", "validation-loss"];
        laws_hold(processes, 3, &[&laws[..], &["--subject", "libtorch", "--cases", "12"]].concat());
        laws_hold(processes, 15, &["--training", "--cases", "3", "--subject", "reference"]);
    }
}

/// A run that would take hours, each of whose processes leaves its number in the folder before it begins.
fn begun(folder: &Path, processes: usize, limit: u64) -> Child {
    let script = "echo $$ > \"$0/$OMPI_COMM_WORLD_RANK\"; exec \"$@\"";
    let mut mpirun = mpirun();
    mpirun.arg("-n").arg(processes.to_string()).args(["sh", "-c", script]).arg(folder);
    mpirun.arg(LOSSPROOF).args(["train", "--config", "gpt2-pico", "--text-bytes", "1780", "--block", "12"]);
    mpirun.args(["--epochs", "1000000"]).env("LOSSPROOF_TIMEOUT", limit.to_string());
    mpirun.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mpirun is installed")
}

/// The number of the process of a rank, once it is there and at work.
fn process_of(folder: &Path, rank: usize) -> String {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let number = fs::read_to_string(folder.join(rank.to_string())).unwrap_or_default();
        if number.ends_with('\n') {
            // It has joined the others and begun by then.
            thread::sleep(Duration::from_secs(5));
            return number.trim().to_owned();
        }
        assert!(Instant::now() < deadline, "rank {rank} did not start");
        thread::sleep(Duration::from_millis(50));
    }
}

fn signal(name: &str, process: &str) {
    let sent = Command::new("kill").args([name, process]).status().expect("kill is there");
    assert!(sent.success());
}

/// How a run ends in which a rank is sent a signal: what was said, and after how long.
fn ends_after(signalled: usize, name: &str, limit: u64) -> (String, Duration) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = begun(folder.path(), 3, limit);
    let processes: Vec<String> = (0..3).map(|rank| process_of(folder.path(), rank)).collect();
    signal(name, &processes[signalled]);
    let since = Instant::now();
    while child.try_wait().expect("it can be asked").is_none() {
        if since.elapsed() > Duration::from_mins(3) {
            child.kill().expect("it can be ended");
            panic!("nobody has ended the run");
        }
        thread::sleep(Duration::from_millis(100));
    }
    let output = child.wait_with_output().expect("it has ended");
    let took = since.elapsed();
    assert!(!output.status.success());
    for process in &processes {
        // One that was stopped is ended by force, a moment after the others.
        let place = Path::new("/proc").join(process);
        while place.exists() {
            assert!(since.elapsed() < took + Duration::from_secs(20), "process {process} is left behind");
            thread::sleep(Duration::from_millis(100));
        }
    }
    (String::from_utf8_lossy(&output.stderr).into_owned(), took)
}

#[test]
fn a_rank_that_dies_ends_the_run_with_its_number() {
    let (said, took) = ends_after(1, "-KILL", 600);
    assert!(said.contains("rank 1") && said.contains("signal 9"), "{said}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_rank_that_hangs_ends_the_run_with_its_number() {
    // Ranks wait a third of what a call may take.
    for (rank, within) in [(2, 3), (1, 3)] {
        let (said, took) = ends_after(rank, "-STOP", 9);
        // To a place, to the all-reduce, or to a message: it was stopped anywhere.
        assert!(said.contains(&format!("rank {rank} did not ")), "{said}");
        assert!(said.contains(&format!("within {within} s")), "{said}");
        assert!(took < Duration::from_secs(40), "{took:?}");
    }
}

/// The first rank is the one that says who is missing; where it is missing itself, the others say so.
#[test]
fn a_first_rank_that_hangs_ends_the_run_too() {
    let (said, took) = ends_after(0, "-STOP", 6);
    assert!(said.contains("rank 0 did not "), "{said}");
    assert!(took < Duration::from_mins(1), "{took:?}");
}

/// One rank that was started with something else.
fn beside(other: &[&str]) -> String {
    let mut mpirun = mpirun();
    mpirun.args(["-n", "2", LOSSPROOF]).args(RUN).args([":", "-n", "1", LOSSPROOF]).args(other);
    let output = mpirun.output().expect("mpirun is installed");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_rank_with_other_settings_or_another_command_is_named() {
    let mut other = RUN.to_vec();
    other.extend(["--seed", "1"]);
    let said = beside(&other);
    assert!(said.contains("rank 2 has other settings or another text than the first rank"), "{said}");
    let said = beside(&["train", "--text", "no such file"]);
    assert!(said.contains("rank 2 failed: ") && said.contains("no such file"), "{said}");
}

/// Not a test, but a rank that joins the others and sends what is nothing: [`a_rank_of_garbage_is_named`] starts it.
#[test]
#[ignore = "a rank among others, and no test"]
fn sends_garbage() {
    let mut engine = lossproof_mpi::Mpi::join().expect("it has not joined before");
    let (own, size) = (engine.rank(), engine.size());
    for to in (0..size).filter(|to| *to != own) {
        let garbage = env::var("LOSSPROOF_GARBAGE").expect("what to send");
        let _ = engine.send(to, garbage.into_bytes(), Duration::from_secs(30));
    }
    // It takes what is sent to it until it is ended by the others.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_mins(2) {
        for from in (0..size).filter(|from| *from != own) {
            let _ = engine.receive(from, Some(Duration::from_millis(100)));
        }
    }
    panic!("nobody has ended this rank");
}

#[test]
fn a_rank_of_garbage_is_named() {
    let own = env::current_exe().expect("a path");
    let garbage = ["-n", "1", &own.to_string_lossy(), "sends_garbage", "--exact", "--ignored", "--nocapture"]
        .map(str::to_owned);
    let mut honest = vec!["-n".to_owned(), "2".to_owned(), LOSSPROOF.to_owned()];
    honest.extend(RUN.map(str::to_owned));
    for (sent, due) in [
        ("nothing that has a line", "23 bytes without a line"),
        ("{\"question\":0}\n", "missing field `said`"),
        ("{\"question\":0,\"said\":{\"all\":[1]}}\n0123", ""),
    ] {
        for wrong in [0, 2] {
            let (first, second) =
                if wrong == 0 { (&garbage[..], &honest[..]) } else { (&honest[..], &garbage[..]) };
            let mut mpirun = mpirun();
            mpirun.args(first).arg(":").args(second).env("LOSSPROOF_GARBAGE", sent);
            // The others leave it to the first to say why all end, and wait for that as long as for anything.
            mpirun.env("LOSSPROOF_TIMEOUT", "9");
            let since = Instant::now();
            let output = mpirun.output().expect("mpirun is installed");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success());
            assert!(said.contains(&format!("rank {wrong} sent what is nothing that a rank says")), "{said}");
            assert!(said.contains(due), "{said}");
            assert!(since.elapsed() < Duration::from_mins(1), "{said}");
        }
    }
}

#[test]
fn more_ranks_than_processes_are_refused() {
    let mut args = RUN.to_vec();
    args.extend(["--ranks", "3"]);
    let output = on(2, &args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("3 ranks, and there are 2 processes"), "{said}");
}

/// On three processes the bugs of ranks fail in what they fail in on three threads.
#[test]
fn the_bugs_of_ranks_are_killed_and_named_on_processes() {
    let threads = succeeded(&alone(&["faults", "--ranks"]));
    assert_eq!(succeeded(&on(3, &["faults", "--ranks"])), threads);
}
