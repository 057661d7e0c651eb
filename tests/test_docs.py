"""What the documents say must be so: their commands run, and what they name and link to exists.

A shell or Python block, or a table with commands in its first column, right below `<!-- runnable -->` is run here.
"""

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest
import yaml

from tests.conftest import ROOT, clone_project

DOCUMENTS = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
MARK = "<!-- runnable -->\n"
FENCE = re.compile(rf"^(?P<mark>{MARK})?```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
TABLE = re.compile(rf"^{MARK}(?P<text>(?:\|.*\n)+)", re.MULTILINE)
SPAN = re.compile(r"(?<!`)(`+)(?!`)((?:(?!\n\n).)+?)(?<!`)\1(?!`)", re.DOTALL)


class Block(NamedTuple):
    """A piece of a document that can be run: where its text starts, bash, python or a table, and what to run."""

    line: int
    kind: str
    script: str


def read_document(name):
    return (ROOT / name).read_text(encoding="utf-8")


def strip_prompts(text):
    return "".join(line[2:] for line in text.splitlines(keepends=True) if line.startswith("$ "))


def list_commands(table):
    """The code spans of a table's first column, one a line."""
    cells = [re.split(r"(?<!\\)\|", row)[1].replace(r"\|", "|") for row in table.splitlines()[2:]]
    return "\n".join(span for cell in cells for _, span in SPAN.findall(cell))


def find_blocks(text, marked=False):
    """Blocks of shell and Python in the order of the document; with `marked`, the runnable ones and no others."""
    blocks = []
    for found in [*FENCE.finditer(text), *TABLE.finditer(text)]:
        kind, script = found.groupdict().get("kind", "table"), found["text"]
        if kind == "console":
            kind, script = "bash", strip_prompts(script)
        elif kind == "table":
            script = list_commands(script)
        if kind in ("bash", "python", "table") and (not marked or found[0].startswith(MARK)):
            blocks.append(Block(text.count("\n", 0, found.start("text")) + 1, kind, script))
    return sorted(blocks)


def read_prose(text):
    return FENCE.sub("", text)


def find_code(text):
    """Every block and code span of a document, as single lines, with a star for <something> or ${something}."""
    found = [block.script for block in find_blocks(text)] + [span for _, span in SPAN.findall(read_prose(text))]
    return [re.sub(r"<\w[^<>\n]*>|\$\{\w+\}", "*", code.replace("\\\n", " ")) for code in found]


RUNNABLE = [name for name in DOCUMENTS if find_blocks(read_document(name), marked=True)]


@pytest.fixture(scope="module")
def finished(origin, tmp_path_factory):
    """A project with three quick models that has run and is committed, and where `make` finds its .venv."""
    project = clone_project(origin, tmp_path_factory.mktemp("docs") / "project")
    project.run("dvc", "pull")
    project.run("dvc", "remote", "remove", "store")
    project.keep_models("ridge", "decision_tree", "xgboost")
    project.run("git", "checkout", "--quiet", "dvc.lock")  # two of them are there
    project.set_params(fit={"cv_folds": 2}, xgboost={"n_estimators": 20})
    (project.root / ".venv").symlink_to(Path(sys.executable).parent.parent)
    (project.root / ".git/info/exclude").write_text("/.venv\n")
    project.run("make", "--touch", ".venv/ready")
    project.run("dvc", "repro")
    project.commit("three quick models")
    project.run("git", "tag", "start")
    return project


@pytest.fixture
def project(finished):
    """The same project for every document, back at its commit; MLflow and the experiments stay."""
    finished.run("git", "reset", "--quiet", "--hard", "start")
    finished.run("git", "clean", "--quiet", "--force", "-d")
    finished.run("dvc", "checkout", "--quiet", "--force")
    return finished


def list_steps(block):
    """The command lines of a block without their comments; Python is one step as a whole."""
    if block.kind == "python":
        return {block.script}
    return {re.sub(r"\s+#.*", "", line) for line in block.script.replace("\\\n", " ").splitlines()}


@pytest.fixture(scope="module")
def ran():
    """The steps of the blocks that have ended with success."""
    return set()


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNNABLE)
def test_runnable_blocks_end_with_success(project, ran, name):
    """A block whose every line is also in blocks that have been run already, as those that load a model, is not.

    Nor is a command of a table, which stands for itself.
    """
    for block in find_blocks(read_document(name), marked=True):
        steps, script = list_steps(block), block.script
        if steps <= ran:
            continue
        if block.kind == "table":
            script = "\n".join(line for line in script.splitlines() if line not in ran)
        command = [sys.executable, "-c"] if block.kind == "python" else ["bash", "-ex", "-c"]
        done = project.run(*command, script, check=False)
        said = f"{name}:{block.line} ended with {done.returncode}\n{script}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said
        ran |= steps


def test_some_commands_of_readme_and_guide_are_run():
    assert {"README.md", "docs/GUIDE_MLOPS_FR.md", "docs/COMMANDES_RAPIDES.md"} <= set(RUNNABLE)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_mark_stands_above_something_that_can_be_run(name):
    text = read_document(name)
    assert text.count("```") == 2 * len(FENCE.findall(text)), "a fence is indented, or not closed"
    assert len(re.findall(r"(?i)<!--\s*run", text)) == len(find_blocks(text, marked=True))


@cache
def list_files():
    """Files that git has or would have, and the outputs that dvc.yaml names, with the folders of all of them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = {name for name in listed.stdout.splitlines() if (ROOT / name).exists()} | list_outputs()
    return files | {str(folder) for name in files for folder in PurePosixPath(name).parents}


@cache
def list_outputs():
    """The outputs that dvc.yaml names, with each model's name in the place of ${item}."""
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    outputs = set()
    for stage in pipeline["stages"].values():
        items = pipeline["vars"][0]["train"]["models"] if "foreach" in stage else [""]
        described = stage.get("do", stage)
        named = [out for key in ("outs", "metrics") for out in described.get(key, [])]
        names = [out if isinstance(out, str) else next(iter(out)) for out in named]
        outputs |= {name.replace("${item}", item) for name in names for item in items}
    return outputs


@cache
def list_ignored():
    """What .gitignore files name, as patterns from the root."""
    found = []
    for path in (name for name in list_files() if PurePosixPath(name).name == ".gitignore"):
        lines = [line.strip("/ ") for line in (ROOT / path).read_text().splitlines()]
        found += [str(PurePosixPath(path).parent / line) for line in lines if line and not line.startswith("#")]
    return found


@cache
def list_starts_and_suffixes():
    """The first parts of all paths of the repository, and the suffixes of its files."""
    paths = [PurePosixPath(name.rstrip("*")) for name in [*list_files(), *list_ignored()]]
    return {path.parts[0] for path in paths if path.parts}, {path.suffix for path in paths if path.suffix}


def is_path(word):
    """Whether a word starts as paths of this repository do, or ends as its files do."""
    starts, suffixes = list_starts_and_suffixes()
    if not re.fullmatch(r"[\w.*/-]+", word) or word.startswith(("-", "../")):
        return False
    return PurePosixPath(word).suffix in suffixes or ("/" in word and word.split("/")[0] in starts)


def find_paths(code):
    """Words of a piece of code that name a path of the repository."""
    words = [word.lstrip("@>").rstrip("/:.").removeprefix("./") for word in re.split(r"""[\s'"=,;()|&]+""", code)]
    return set(filter(is_path, words))


def find_written(code):
    """Paths that commands write: behind > or --output."""
    return set(re.findall(r"(?:[^-]>{1,2}|--output)[ =]([\w./-]+)", code))


def exists(path):
    """Whether the repository has a path, the pipeline writes it, or git is told to ignore it."""
    files = list_files()
    if any(str(folder) in list_outputs() for folder in PurePosixPath(path).parents):
        return True  # inside a folder that a stage writes
    if any(fnmatch(name, path) or fnmatch(PurePosixPath(name).name, path) for name in files):
        return True
    for folder in (path, *map(str, PurePosixPath(path).parents)):
        if any(fnmatch(folder, pattern) for pattern in list_ignored()):
            return not any(name.startswith(f"{folder}/") for name in files)  # DVC's folders hold what dvc.yaml says
    return False


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_exists_or_is_written_by_the_pipeline(name):
    codes = find_code(read_document(name))
    written = set().union(*map(find_written, codes))
    assert [path for code in codes for path in sorted(find_paths(code) - written) if not exists(path)] == []


@cache
def read_help(module):
    """What a module of stages/ says of its arguments."""
    command = [sys.executable, "-m", f"stages.{module}", "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def find_options(code):
    return re.findall(r"(?<![\w-])--[a-z][\w-]*", code)


def takes(module, argument):
    """Whether a module knows an argument; one that is no option and no plain word is the user's, as a file is."""
    if argument.startswith("-"):
        return argument.partition("=")[0] in find_options(read_help(module))
    return not argument.islower() or not argument.isidentifier() or argument in re.findall(r"\w+", read_help(module))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_exists(name):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [target for code in find_code(read_document(name)) for target in re.findall(r"\bmake ([a-z][\w-]*)", code)]
    assert set(named) <= set(targets)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_module_that_is_run_exists_and_takes_its_arguments(name):
    wrong = []
    for code in find_code(read_document(name)):
        for folder, module, rest in re.findall(r"python -m (stages|benchmarks)\.(\w+)([^\n#|;&>]*)", code):
            if not (ROOT / folder / f"{module}.py").exists():
                wrong.append(f"{folder}.{module}")
            elif folder == "stages":
                wrong += [f"stages.{module} {word}" for word in rest.split() if not takes(module, word)]
    assert wrong == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_option_on_its_own_belongs_to_a_module_or_to_a_command_of_the_documents(name):
    alone = {code for code in find_code(read_document(name)) if re.fullmatch(r"--[a-z][\w-]*", code)}
    commands = [code for document in DOCUMENTS for code in find_code(read_document(document)) if " " in code]
    helps = [read_help(module) for module in ("describe", "predict", "serve", "switch", "tune")]
    assert alone <= {option for text in (commands + helps) for option in find_options(text)}


def find_links(text):
    """Targets of links and pictures outside code, but for those of the web."""
    prose = SPAN.sub("", read_prose(text))
    found = re.findall(r"\]\(([^)\s]+)[^)]*\)|(?:src|href)=\"([^\"]+)\"", prose)
    return [link for pair in found for link in pair if link and not re.match(r"\w+:", link)]


def find_anchors(text):
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", read_prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name):
    broken = []
    for link in find_links(read_document(name)):
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists() or (anchor and anchor not in find_anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def read_scores():
    """{title: metrics} of every model that is ranked."""
    files = [path for path in (ROOT / "metrics").glob("*.json") if path.name != "champion.json"]
    return {scores["model"]: scores for scores in map(json.loads, map(Path.read_text, files))}


def read_rows(text, header):
    """The rows of the table whose header begins with these cells, as lists of cells."""
    lines = text.partition(f"| {' | '.join(header)} |")[2].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[: next((n for n, line in enumerate(lines) if not line.startswith("|")), len(lines))]


def format_figures(scores):
    """CV RMSLE, test RMSE, test R² and its interval as README's table has them."""
    low, high = (f"{scores[f'test_r2_{end}']:.3f}"[1:] for end in ("low", "high"))
    return [
        f"{scores['cv_rmsle']:.4f}"[1:],
        f"{scores['test_rmse']:,.0f}",
        f"{scores['test_r2']:.4f}"[1:],
        f"{low} – {high}",
    ]


def test_figures_of_readmes_table_are_those_of_the_metrics():
    header = ["model", "CV RMSLE", "test RMSE", "test R²", "95 % interval of R²"]
    shown = {title: figures[:4] for title, *figures in read_rows(read_document("README.md"), header)}
    assert shown == {title: format_figures(scores) for title, scores in read_scores().items()}


def test_readmes_leaderboard_and_lead_are_those_of_the_metrics():
    champion = json.loads((ROOT / "metrics/champion.json").read_text())
    text, lines = read_document("README.md"), []
    for name in champion["ranking"]:
        s = json.loads((ROOT / f"metrics/{name}.json").read_text())
        interval = f"{s['test_r2_low']:.3f} – {s['test_r2_high']:.3f}"
        errors = [f"{s['test_rmse']:,.0f}", f"{s['test_mae']:,.0f}", f"{s['test_r2']:.4f}"]
        lines.append((s["model"], *errors, interval, f"{s['cv_rmsle']:.4f}"))
    assert re.findall(r"^ *\d+  (.+?)  +(\S+) +(\S+) +(\S+)  +(\S+ – \S+)  +(\S+)", text, re.MULTILINE) == lines
    leads = re.findall(r"(\d+) ?% of (?:the bootstrap )?resamples", text)
    assert set(leads) == {f"{100 * champion['win_rate']:.0f}"}
    first_screen = " ".join(text.partition("## Run it")[0].split())
    figures = f"an R² of {champion['test_r2']:.4f} and a median error of {champion['test_mdape']:.1f} %."
    assert f"On {champion['n_test']} houses that no model has seen, the best has {figures}" in first_screen


def test_metrics_before_readmes_experiment_are_those_of_the_metrics():
    found = re.findall(r"^(metrics/\w+\.json) +(\w+) +(\S+) ", read_document("README.md"), re.MULTILINE)
    assert found
    for path, metric, shown in found:
        assert float(shown) == round(json.loads((ROOT / path).read_text())[metric], 5), (path, metric)


def test_the_figures_of_the_results_are_those_that_the_bench_wrote():
    from benchmarks.bench import APART, PARTS

    written = json.loads(read_document("benchmarks/results.json"))
    text = read_document("benchmarks/RESULTS.md")
    for part in {*PARTS, APART} & set(written):
        table = text.partition(f"<!-- {part} -->\n")[2].partition("<!-- end -->")[0]
        for figure in find_figures(written[part]):
            assert figure in table, (part, figure)


def find_figures(content):
    """The figures as they were printed, or the seconds with the digits that the tables have."""
    if isinstance(content, dict) and "figure" in content:
        return [content["figure"]]
    if isinstance(content, dict) and "peak" in content:
        return [f"{content['seconds']:.1f} s, {content['peak'] / 1e9:.1f} GB"]
    if isinstance(content, dict) and "defaults" in content:
        shown = [*content["defaults"].values(), max(content["ours"].values()), content["ours"]["blend"]]
        return [f"{content['rows']:,}", *(f"{r2:.4f}" for r2 in shown)]
    if isinstance(content, float):
        return [f"{content:.2f} s"]
    values = content.values() if isinstance(content, dict) else content or []
    return [figure for value in values for figure in find_figures(value)]
