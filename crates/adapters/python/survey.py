"""What the ready adapters are found to be, as the table in docs/bugs.md: ``python survey.py JUDGE [--write FILE]``.

Each release that is installed is diagnosed, and what is printed is what was seen on the day that is printed.
"""

import argparse
import datetime
import pathlib
import re
import subprocess
import sys

ADAPTERS = [
    ("hf_trainer", "transformers", "`Trainer`", "gpt2", "GPT2LMHeadModel"),
    ("hf_trainer", "transformers", "`Trainer`", "llama", "LlamaForCausalLM"),
    ("accelerate_loop", "accelerate", "the loop of run_clm_no_trainer", "gpt2", "GPT2LMHeadModel"),
    ("accelerate_loop", "accelerate", "the loop of run_clm_no_trainer", "llama", "LlamaForCausalLM"),
]

BEGIN, END = "<!-- survey: begin -->", "<!-- survey: end -->"


def seen(judge, adapter, model):
    """The version, and what the diagnosis says."""
    command = f"'{sys.executable}' -m lossproof_adapters.{adapter} --model {model}"
    done = subprocess.run([judge, "diagnose", "--adapter", command], capture_output=True, text=True, timeout=1800)
    if done.returncode == 2:
        raise SystemExit(done.stderr)
    version = re.search(r"(\S+) \(", done.stdout).group(1)
    named = re.findall(r"^(?:looks like|or, alike in everything that was looked at,) ([\w-]+):", done.stdout, re.M)
    if named:
        return version, " or ".join(f"`{bug}`" for bug in named)
    if done.returncode == 0:
        return version, "as claimed"
    return version, "not as claimed, and no known bug"


def main():
    parser = argparse.ArgumentParser(prog="python survey.py", description=__doc__)
    parser.add_argument("judge", help="the lossproof program")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE", help="the page that has the table")
    arguments = parser.parse_args()
    rows = ["| release | what trains | model class | claim | seen |", "|---|---|---|---|---|"]
    for adapter, package, what, model, name in ADAPTERS:
        version, found = seen(arguments.judge, adapter, model)
        rows.append(f"| {package} {version} | {what} | {name} | per-token mean of the step | {found} |")
    day = datetime.date.today().isoformat()
    text = "\n".join([BEGIN, f"Run on {day}.", "", *rows, END])
    print(text)
    if arguments.write:
        page = arguments.write.read_text()
        before, rest = page.split(BEGIN)
        arguments.write.write_text(before + text + rest.split(END)[1])


if __name__ == "__main__":
    main()
