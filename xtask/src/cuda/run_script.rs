//! The script that runs everything on the machine with a GPU.

/// Its text, for `sh`.
pub(super) const TEXT: &str = include_str!("run.sh");

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Output};

    /// What stands in for a python with PyTorch: one folder of libraries, whatever it is asked.
    const PYTHON: &str = "#!/bin/sh\necho /torch/lib\n";
    /// What stands in for a program: it says where it is and with which libraries, and ends as the test wants it to.
    const PROGRAM: &str =
        "#!/bin/sh\necho \"$(basename \"$PWD\") $LD_LIBRARY_PATH $LOSSPROOF_DEVICE $LOSSPROOF_CASES $*\"\n";

    /// Through `install`, so that this process never holds a program open for writing that another one is to run.
    fn install(path: &Path, script: &str) {
        let text = path.with_extension("text");
        fs::write(&text, script).unwrap();
        let installed = Command::new("install").args(["-m", "755"]).arg(&text).arg(path).status().unwrap();
        assert!(installed.success());
    }

    /// Runs the script in a folder whose `lossproof` and `conformance` end with these codes.
    fn run(root: &Path, python: &str, lossproof: u8, conformance: u8) -> Output {
        let ending = |code| format!("{PROGRAM}[ \"$1\" = --version ] || exit {code}\n");
        fs::create_dir(root.join("include")).unwrap();
        install(&root.join("python"), python);
        install(&root.join("lossproof"), &ending(lossproof));
        install(&root.join("conformance"), &ending(conformance));
        fs::write(root.join("built-from"), "commit a\n").unwrap();
        fs::write(root.join("run"), TEXT).unwrap();
        Command::new("sh")
            .arg(root.join("run"))
            .arg(root.join("reports"))
            .env("PYTHON", root.join("python"))
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap()
    }

    fn report(root: &Path, name: &str) -> String {
        fs::read_to_string(root.join("reports").join(name)).unwrap()
    }

    /// Programs and exit codes of the summary, without the times.
    fn summary(root: &Path) -> Vec<String> {
        let text = report(root, "summary.txt");
        text.lines().map(|line| line.split(',').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_program_runs_beside_the_kernels_headers_with_pytorchs_libraries() {
        let root = tempfile::tempdir().unwrap();
        let output = run(root.path(), PYTHON, 0, 0);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(
            summary(root.path()),
            [
                "verify-nano-f64: exit code 0",
                "verify-nano-f32: exit code 0",
                "verify-small-f32: exit code 0",
                "conformance: exit code 0"
            ]
        );
        assert!(report(root.path(), "machine.txt").contains("commit a\n"));
        let json = root.path().join("reports/verify-small-f32.json");
        assert_eq!(
            report(root.path(), "verify-small-f32.txt"),
            format!(
                "include /torch/lib   verify --device cuda --config gpt2-small --dtype f32 --json {}\n",
                json.display()
            )
        );
        let cases = root.path().join("reports/cases");
        assert_eq!(
            report(root.path(), "conformance.txt"),
            format!("include /torch/lib cuda {} \n", cases.display())
        );
    }

    #[test]
    fn a_failure_does_not_stop_the_others_and_shows_in_the_exit_code() {
        let root = tempfile::tempdir().unwrap();
        let output = run(root.path(), PYTHON, 1, 101);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(summary(root.path()).len(), 4);
        assert_eq!(summary(root.path())[3], "conformance: exit code 101");
    }

    #[test]
    fn without_a_gpu_nothing_else_is_run() {
        let root = tempfile::tempdir().unwrap();
        let output = run(root.path(), PYTHON, 2, 0);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(summary(root.path()), ["verify-nano-f64: exit code 2"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("sees no GPU"), "{output:?}");
    }

    #[test]
    fn another_pytorch_is_refused_before_anything_runs() {
        let root = tempfile::tempdir().unwrap();
        let output = run(root.path(), "#!/bin/sh\nexit 1\n", 0, 0);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("no PyTorch 2.11.0"), "{output:?}");
        assert!(!root.path().join("reports/summary.txt").exists());
    }
}
