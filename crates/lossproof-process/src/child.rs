//! A process that is asked over its standard input and output, and ended with everything that it started.
//!
//! It has a process group of its own, which is killed whole: before the process is waited for, so that the group's
//! number cannot be another's by then. What a process puts into a group of its own is out of reach.

use crate::{
    AdapterError, Message, MessageError,
    command::command,
    conversation::{Conversation, Question},
    tail::Tail,
};
use lossproof_subject::Watchdog;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use std::{
    io::{self, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    process::{ChildStdin, ChildStdout, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Time for a process to end by itself after the last answer, and to be told how it ended after it closed its output.
const GRACE: Duration = Duration::from_secs(2);

/// Time between two looks at a process.
const PAUSE: Duration = Duration::from_millis(5);

/// Fresh processes that take the place of one that ended, in one judgement.
const FRESH: u8 = 8;

/// The time for a call: less than the watchdog of every call has, which ends this process, by a twentieth and by
/// what it takes to end a process.
pub(crate) fn time_limit() -> Duration {
    let all = Watchdog::time_limit().unwrap_or(Duration::from_mins(10));
    let spare = all.mul_f64(0.05).max(Duration::from_secs(5));
    all.checked_sub(spare).unwrap_or_default().max(all / 2)
}

/// A command whose process answers.
pub(crate) struct Child {
    command: String,
    /// Time for all answers that one call of a subject needs.
    limit: Duration,
    /// When that of this call is over.
    deadline: Instant,
    process: Option<Running>,
    /// Fresh processes that may still be started.
    fresh: u8,
}

/// A process that runs.
struct Running {
    process: std::process::Child,
    /// To the thread that writes and reads; without it, it closes the input.
    questions: Option<Sender<Sent>>,
    answers: Receiver<Result<Option<Message>, MessageError>>,
    words: Tail,
}

/// What the thread is to write, and how much it may read for it.
struct Sent {
    message: Arc<Message>,
    most_tensors: u64,
}

impl Child {
    /// Starts the command.
    pub(crate) fn start(command: &str, limit: Duration) -> Result<Self, AdapterError> {
        let process = Some(Running::start(command)?);
        let deadline = Instant::now() + limit;
        Ok(Self { command: command.to_owned(), limit, deadline, process, fresh: FRESH })
    }

    /// Ends the process at once and says how it ended.
    fn kill(&mut self) -> String {
        self.process.take().map_or_else(|| "before".to_owned(), Running::kill)
    }
}

impl Running {
    fn start(line: &str) -> Result<Self, AdapterError> {
        let mut command = command(line)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        // So that the other end can put everything else that prints out of the way before it does.
        command.env("LOSSPROOF_ADAPTER", "1");
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| AdapterError::Start { program: program.clone(), source };
        let mut process = command.spawn().map_err(failed)?;
        let piped = || failed(io::Error::other("a pipe is missing"));
        let input = process.stdin.take().ok_or_else(piped)?;
        let output = process.stdout.take().ok_or_else(piped)?;
        let words = Tail::of(process.stderr.take().ok_or_else(piped)?);
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        // Not joined: where something outlives the process and holds its output open, it waits for as long.
        thread::spawn(move || converse(input, output, &asked, &answer));
        Ok(Self { process, questions: Some(questions), answers, words })
    }

    /// Whether the process has ended, without taking notice of it for good.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid()), options), Ok(None))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Waits for the process to end by itself, for a while.
    fn wait(&self, patience: Duration) {
        let until = Instant::now() + patience;
        while !self.has_ended() && Instant::now() < until {
            thread::sleep(PAUSE);
        }
    }

    /// Kills the whole group and says how its first process ended.
    fn kill(mut self) -> String {
        drop(self.questions.take());
        // Before the process is waited for: until then its number is nobody else's.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        // It may have moved into another group.
        let _ = kill_process(self.pid(), Signal::KILL);
        self.wait(GRACE);
        match self.process.try_wait() {
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "it cannot be killed".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// Writes questions and reads answers, until no more are asked. Then it looks whether more comes than was asked for.
fn converse(
    mut input: ChildStdin,
    output: ChildStdout,
    asked: &Receiver<Sent>,
    answers: &Sender<Result<Option<Message>, MessageError>>,
) {
    let mut output = BufReader::new(output);
    while let Ok(question) = asked.recv() {
        // A process that has ended takes no more; what it said before stands in its output all the same.
        let _ = question.message.write(&mut input);
        let answer = Message::read(&mut output, question.most_tensors);
        if answers.send(answer).is_err() {
            return;
        }
    }
    drop(input);
    let mut more = [0];
    if matches!(output.read(&mut more), Ok(1..)) {
        let _ = answers.send(Ok(Some(Message::default())));
    }
}

impl Conversation for Child {
    fn begin(&mut self) {
        self.deadline = Instant::now() + self.limit;
    }

    fn exchange(&mut self, question: &Question<'_>) -> Result<Message, AdapterError> {
        let call = question.call;
        let gone = || AdapterError::Ended {
            call,
            status: "before".to_owned(),
            words: "it is not asked again".to_owned(),
        };
        let running = self.process.as_mut().ok_or_else(gone)?;
        let sent = Sent { message: Arc::clone(question.message), most_tensors: question.most_tensors };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let answer = match &running.questions {
            Some(questions) if questions.send(sent).is_ok() => running.answers.recv_timeout(left),
            _ => Err(RecvTimeoutError::Disconnected),
        };
        let words = running.words.clone();
        match answer {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) | Err(RecvTimeoutError::Disconnected) => {
                running.wait(GRACE);
                let goes_on = !running.has_ended();
                let mut status = self.kill();
                if goes_on {
                    "it closed its output and went on".clone_into(&mut status);
                }
                Err(AdapterError::Ended { call, status, words: words.shown() })
            }
            Ok(Err(source)) => {
                self.kill();
                Err(AdapterError::Message { call, source, words: Some(words.shown()) })
            }
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                // Who waited so long once does not wait again.
                self.fresh = 0;
                Err(AdapterError::Hung { call, seconds: self.limit.as_secs(), words: words.shown() })
            }
        }
    }

    fn begin_anew(&mut self) -> Result<bool, AdapterError> {
        self.kill();
        let Some(fresh) = self.fresh.checked_sub(1) else { return Ok(false) };
        self.fresh = fresh;
        self.process = Some(Running::start(&self.command)?);
        Ok(true)
    }

    fn end(&mut self, _: bool) -> Result<(), AdapterError> {
        let Some(mut running) = self.process.take() else { return Ok(()) };
        drop(running.questions.take());
        running.wait(GRACE);
        // Ended, its output ends, and the thread has looked behind the last answer.
        let _ = kill_process_group(running.pid(), Signal::KILL);
        let more = running.answers.recv_timeout(GRACE);
        running.kill();
        match more {
            Ok(Ok(Some(_))) => Err(AdapterError::More),
            _ => Ok(()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.end(false);
    }
}
