//! A Chromium without a window, told what to do through a pipe in the protocol of its developer tools.

use crate::failure::{Failure, IoContext as _};
use serde_json::{Value, json};
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// What Chromium is called by those who package it.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Messages are read from descriptor 3 and written to 4, each ended by a zero.
const SCRIPT: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;
const END: u8 = 0;

/// The first Chromium on the `PATH`.
pub(super) fn find() -> Option<PathBuf> {
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH")?).collect();
    let programs = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    programs.into_iter().find(|program| program.is_file())
}

/// A running Chromium with one page, ended when it is dropped.
pub(super) struct Browser {
    child: Child,
    requests: ChildStdin,
    messages: BufReader<ChildStdout>,
    /// The page that is talked to; empty before there is one.
    session: String,
    last: u64,
    /// Its profile, which goes when it goes.
    _profile: TempDir,
}

impl Browser {
    /// Starts it with an empty profile.
    pub(super) fn start(program: &Path) -> Result<Self, Failure> {
        let profile = tempfile::tempdir().context("create", &env::temp_dir())?;
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).arg(program);
        // Without its sandbox, which root cannot have: the pages are ours, and have no script.
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]);
        command.args(["--remote-debugging-pipe", "--disable-background-networking"]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("run", program)?;
        let (Some(requests), Some(messages)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ended());
        };
        let messages = BufReader::new(messages);
        let mut browser =
            Self { child, requests, messages, session: String::new(), last: 0, _profile: profile };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach)?;
        attached["sessionId"].as_str().unwrap_or_default().clone_into(&mut browser.session);
        browser.call("Page.enable", &json!({}))?;
        Ok(browser)
    }

    /// Calls a method and waits for its result.
    pub(super) fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, Failure> {
        self.last += 1;
        let mut request = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        let mut bytes = request.to_string().into_bytes();
        bytes.push(END);
        self.requests.write_all(&bytes).map_err(|_| ended())?;
        self.requests.flush().map_err(|_| ended())?;
        let id = self.last;
        let mut answer = self.message(|message| message["id"] == id)?;
        if let Some(error) = answer["error"]["message"].as_str() {
            return Err(Failure::new(format!("Chromium refuses {method}: {error}"), "use a newer Chromium"));
        }
        Ok(answer["result"].take())
    }

    /// Opens a file and waits until all of it is there.
    pub(super) fn open(&mut self, page: &Path) -> Result<(), Failure> {
        let answer = self.call("Page.navigate", &json!({ "url": url(page) }))?;
        if let Some(error) = answer["errorText"].as_str() {
            let message = format!("Chromium cannot show {}: {error}", page.display());
            return Err(Failure::new(message, "name a file of HTML that can be read"));
        }
        self.message(|message| message["method"] == "Page.loadEventFired")?;
        Ok(())
    }

    /// The next message of this kind; others are of no interest.
    fn message(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
        loop {
            let mut bytes = Vec::new();
            self.messages.read_until(END, &mut bytes).map_err(|_| ended())?;
            if bytes.pop() != Some(END) {
                return Err(ended());
            }
            let message = serde_json::from_slice(&bytes).map_err(|_| ended())?;
            if wanted(&message) {
                return Ok(message);
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It removes its children itself when asked; if it is gone already, there is nothing to be done.
        let _ = self.call("Browser.close", &json!({}));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended() -> Failure {
    Failure::new(
        "Chromium ended or cannot be understood",
        "run `chromium --headless --no-sandbox --dump-dom FILE`",
    )
}

/// A file's address, with everything but letters, digits and what separates folders written as bytes.
fn url(page: &Path) -> String {
    let mut url = "file://".to_owned();
    for byte in page.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/.-_".contains(byte) {
            url.push(char::from(*byte));
        } else {
            let escaped = format!("%{byte:02X}");
            url.push_str(&escaped);
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_address_takes_every_name() {
        assert_eq!(url(Path::new("/tmp/a b/ü#?.html")), "file:///tmp/a%20b/%C3%BC%23%3F.html");
    }
}
