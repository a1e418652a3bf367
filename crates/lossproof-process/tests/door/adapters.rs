//! Adapters that are tried: an honest one, and those that do what no adapter may. Each is this program with a name.

use crate::unigram::Unigram;
use lossproof_process::{Message, serve};
use std::{
    fs,
    io::{self, Read as _, Write as _},
    process::{Command, exit},
    thread::sleep,
    time::Duration,
};

/// In the environment: a file into which a process that is left behind writes its number.
pub(crate) const LEFT_BEHIND: &str = "LOSSPROOF_LEFT_BEHIND";

/// An answer as bytes, and what was asked as text.
struct Answer {
    /// How many questions came before.
    before: usize,
    question: String,
    bytes: Vec<u8>,
}

/// Acts as the adapter of this name until nothing more is asked.
pub(crate) fn act(name: &str) {
    let (mut input, mut subject) = (io::stdin().lock(), Unigram::new());
    if name == "ends at once" {
        return;
    }
    if name == "moves into another group" {
        let judge = rustix::process::getpgid(rustix::process::getppid()).expect("the judge has a group");
        rustix::process::setpgid(None, Some(judge)).expect("it may move");
    }
    if name == "leaves a process behind" {
        leave_behind();
    }
    let mut before = 0;
    while let Ok(Some(question)) = Message::read(&mut input, 1 << 30) {
        let (mut bytes, mut sent) = (Vec::new(), Vec::new());
        question.write(&mut sent).expect("memory takes everything");
        serve(&mut subject, &sent[..], &mut bytes).expect("the judge asks what can be answered");
        let question = String::from_utf8_lossy(&question.line).into_owned();
        let last = question.contains("\"bye\"");
        give(name, Answer { before, question, bytes });
        before += 1;
        if last {
            break;
        }
    }
    if name == "goes on after the end" {
        say(b"{\"id\":0,\"answer\":{}}\n");
    }
    if name == "does not end" {
        sleep(Duration::from_mins(1));
    }
}

/// Starts a process that outlives this one and keeps its output open.
fn leave_behind() {
    #[expect(clippy::zombie_processes, reason = "that nobody waits for it is what is tried")]
    let child = Command::new("sleep").arg("600").spawn().expect("there is a command that sleeps");
    if let Some(file) = std::env::var_os(LEFT_BEHIND) {
        fs::write(file, child.id().to_string()).expect("the file can be written");
    }
}

fn say(bytes: &[u8]) {
    let mut output = io::stdout().lock();
    // The judge may have gone away by now, which is what it should.
    let _ = output.write_all(bytes).and_then(|()| output.flush());
}

fn text(bytes: &[u8], change: impl FnOnce(String) -> String) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let mut changed = change(String::from_utf8_lossy(&bytes[..end]).into_owned()).into_bytes();
    changed.extend(&bytes[end..]);
    changed
}

/// Gives an answer as the adapter of this name does.
fn give(name: &str, answer: Answer) {
    let Answer { before, question, bytes } = answer;
    let hello = question.contains("\"hello\"");
    let pass = question.contains("\"accumulate\"");
    match name {
        "prints progress" => {
            say(b"Loading checkpoint shards: 100%\n");
            say(&bytes);
        }
        "prints in front of an answer" if pass => {
            say(b"loss 3.2 ");
            say(&bytes);
        }
        "half a line" if pass => {
            say(&bytes[..20]);
            exit(0);
        }
        "half a line and waits" if pass => {
            say(&bytes[..20]);
            sleep(Duration::from_mins(1));
        }
        "half its tensors" if pass => {
            say(&bytes[..bytes.len() - 8]);
            exit(0);
        }
        "announces ten gigabytes" if pass => {
            say(&text(&bytes, |line| line.replace("\"tensors\":", "\"tensors\":10000000000, \"was\":")));
            loop {
                say(&vec![0; 1 << 16]);
            }
        }
        "announces ten gigabytes rightly" if pass => {
            say(format!("{{\"id\":{},\"tensors\":10000000000,\"answer\":{{}}}}\n", before + 1).as_bytes());
            loop {
                say(&vec![0; 1 << 16]);
            }
        }
        "a line without an end" if pass => loop {
            say(&vec![b'['; 1 << 16]);
        },
        "nested without end" if pass => {
            say(format!("{{\"id\":{},\"answer\":", before + 1).as_bytes());
            say(&vec![b'['; 1 << 20]);
            say(b"\n");
        }
        "a gradient by another name" if pass => say(&replaced(&bytes, "\"gradients/", "\"")),
        "another shape" if pass => say(&reshaped(&bytes)),
        "not a number" if pass => say(&with_nan(&bytes)),
        "answers with a question" if pass => {
            say(format!("{{\"id\":{},\"request\":{{\"call\":\"reset\"}}}}\n", before + 1).as_bytes());
        }
        "answers twice" => {
            say(&bytes);
            say(&bytes);
        }
        "never answers" | "moves into another group" if pass => sleep(Duration::from_mins(1)),
        "answers byte by byte" if pass => {
            for byte in bytes {
                say(&[byte]);
                sleep(Duration::from_millis(100));
            }
        }
        "lies about its limits" if pass => {
            let id = before + 1;
            let refusal = "{\"kind\":\"refused\",\"message\":\"at most 3 positions\"}";
            say(format!("{{\"id\":{id},\"error\":{refusal}}}\n").as_bytes());
        }
        "floods standard error" => {
            let words = vec![b'x'; 1 << 16];
            for _ in 0..400 {
                let _ = io::stderr().write_all(&words);
            }
            say(&bytes);
        }
        "speaks before it is asked" if before == 0 => {
            say(b"{\"id\":1,\"answer\":{}}\n");
            say(&bytes);
        }
        _ if name.strip_prefix("crashes at ").is_some_and(|at| at.parse() == Ok(before)) => {
            eprintln!("RuntimeError: CUDA out of memory");
            exit(3);
        }
        _ if hello => say(&text(&bytes, |line| card(name, before, &line))),
        _ => say(&bytes),
    }
}

/// The card as the adapter of this name gives it.
fn card(name: &str, before: usize, honest: &str) -> String {
    let (what, by) = match name {
        "NaN in the card" => ("\"embedding_scale\":1.0", "\"embedding_scale\":NaN"),
        "a model without end" => ("\"shape\":[5]", "\"shape\":[9223372036854775807,5]"),
        "a vocabulary without end" => ("\"vocabulary\":5", "\"vocabulary\":18446744073709551615"),
        "needs a batch without end" => ("\"sequences\":[1,null]", "\"sequences\":[1000000000,null]"),
        "a name that hides" => ("\"unigram\"", "\"uni\\u001b[2Jgram\""),
        "another version" => ("\"protocol\":1", "\"protocol\":2"),
        "changes its card" if before > 0 => ("\"positions\":64", "\"positions\":32"),
        _ => return honest.to_owned(),
    };
    honest.replace(what, by)
}

/// The answer with its gradient in another shape of as many values.
fn reshaped(bytes: &[u8]) -> Vec<u8> {
    replaced(bytes, "\"shape\":[5]", "\"shape\":[5,1]")
}

/// The answer with a loss that is none.
fn with_nan(bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let end = changed.len();
    // Of two tensors of F64, `gradients/…` comes first and the loss last.
    changed[end - 8..].copy_from_slice(&f64::NAN.to_le_bytes());
    changed
}

/// The answer with something else in the header of its tensors.
fn replaced(bytes: &[u8], what: &str, by: &str) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == b'\n').expect("a line") + 1;
    let mut tensors = &bytes[end..];
    let mut length = [0; 8];
    tensors.read_exact(&mut length).expect("the length of the header");
    let (header, values) = tensors.split_at(usize::try_from(u64::from_le_bytes(length)).expect("a length"));
    let header = String::from_utf8_lossy(header).replace(what, by);
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.as_bytes());
    changed.extend(values);
    let announced = changed.len();
    let line = text(&bytes[..end - 1], |line| {
        let (before, behind) = line.split_once("\"tensors\":").expect("tensors are announced");
        let behind = behind.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{before}\"tensors\":{announced}{behind}")
    });
    [&line[..], b"\n", &changed].concat()
}
