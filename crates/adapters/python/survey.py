"""What the ready adapters are found to be, as the table in docs/bugs.md: ``python survey.py JUDGE [--write FILE]``.

Each release that an interpreter has is diagnosed, and what is printed is what was seen on the day that is printed. With
``--python``, which can be given more than once, those of other interpreters than this one.
"""

import argparse
import datetime
import pathlib
import re
import subprocess
import sys

#: The adapter, the package whose version it has, and what trains.
ADAPTERS = [
    ("hf_trainer", "transformers", "`Trainer`"),
    ("sft_trainer", "trl", "`SFTTrainer`"),
    ("accelerate_loop", "accelerate", "the loop of run_clm_no_trainer"),
    ("lightning_trainer", "lightning", "`Trainer`"),
]

MODELS = [("gpt2", "GPT2LMHeadModel"), ("llama", "LlamaForCausalLM")]

BEGIN, END = "<!-- survey: begin -->", "<!-- survey: end -->"


def has(python, adapter):
    """Whether an interpreter can import an adapter."""
    done = subprocess.run([python, "-c", f"import lossproof_adapters.{adapter}"], capture_output=True)
    return done.returncode == 0


def seen(judge, python, adapter, model):
    """The version, and what the diagnosis says."""
    command = f"'{python}' -m lossproof_adapters.{adapter} --model {model}"
    done = subprocess.run([judge, "diagnose", "--adapter", command], capture_output=True, text=True, timeout=1800)
    if done.returncode == 2:
        raise SystemExit(done.stderr)
    # `NAME, MODEL VERSION (FRAMEWORK), …`
    version = re.search(rf", {model} (.*?) \(", done.stdout).group(1)
    named = re.findall(r"^(?:looks like|or, alike in everything that was looked at,) ([\w-]+):", done.stdout, re.M)
    if named:
        return version, " or ".join(f"`{bug}`" for bug in named)
    if done.returncode == 0:
        return version, "as claimed"
    return version, "not as claimed, and no known bug"


def main():
    parser = argparse.ArgumentParser(prog="python survey.py", description=__doc__)
    parser.add_argument("judge", help="the lossproof program")
    parser.add_argument("--python", action="append", metavar="PROGRAM", help="an interpreter with other releases")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE", help="the page that has the table")
    arguments = parser.parse_args()
    rows = []
    for adapter, package, what in ADAPTERS:
        for python in [sys.executable, *(arguments.python or [])]:
            if not has(python, adapter):
                continue
            for model, name in MODELS:
                version, found = seen(arguments.judge, python, adapter, model)
                row = f"| {package} {version} | {what} | {name} | per-token mean of the step | {found} |"
                if row not in rows:
                    rows.append(row)
    head = ["| release | what trains | model class | claim | seen |", "|---|---|---|---|---|"]
    day = datetime.date.today().isoformat()
    text = "\n".join([BEGIN, f"Run on {day}.", "", *head, *rows, END])
    print(text)
    if arguments.write:
        page = arguments.write.read_text()
        before, rest = page.split(BEGIN)
        arguments.write.write_text(before + text + rest.split(END)[1])


if __name__ == "__main__":
    main()
